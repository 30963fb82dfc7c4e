"""The command line: `python -m bench --help`."""

import argparse
import os
import sys
from pathlib import Path

from bench import __version__
from bench.errors import BadInput

EXAMPLES = """examples:
  python -m bench run --methods all
      every method on the embedded stream, tiny sizes, no data needed; then the leaderboard
  python -m bench run --methods finetune,replay,joint --detectors reverse_distillation,patchcore \\
      --scenario mvtec/10-1x5 --data DIR --seeds 0,1,2
  python -m bench list methods
  python -m bench show synthetic/1x6/replay+reverse_distillation/seed-0
  python -m bench leaderboard --check
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 fine, 1 a check or a cell failed, 2 bad input, 130 interrupted."""
    options = parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `bench published | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """Build the argument parser; nothing heavy is imported for it."""
    top = argparse.ArgumentParser(
        "bench",
        description="Compare continual visual anomaly-detection methods.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _run(commands)
    _list(commands)
    _leaderboard(commands)
    _data(commands)
    _published(commands)
    _show(commands)
    _compare(commands)
    _report(commands)
    _figure(commands)
    _score(commands)
    _submit(commands)
    _worker(commands)
    _pretrain(commands)
    return top


def _command(commands, name: str, function, text: str, epilog: str = "") -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.set_defaults(command=function)
    return command


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 0,1,2") from None


def _results(command: argparse.ArgumentParser) -> None:
    command.add_argument("--results", type=Path, default=Path("results"), help="folder of the cell files (%(default)s)")


def _run(commands) -> None:
    run = _command(
        commands, "run", _do_run, "run cells (method × detector × scenario × seed), then the leaderboard", EXAMPLES
    )
    what = run.add_argument_group("what to compare")
    what.add_argument("--methods", type=_names, required=True, help="comma-separated names, or all")
    what.add_argument("--detectors", type=_names, default=(), help="names, or all; without it each method's default")
    what.add_argument(
        "--scenario", type=_names, default=("synthetic/1x6",), help="streams, or a YAML file (%(default)s)"
    )
    what.add_argument("--seeds", type=_seeds, default=(0,), help="whole numbers, e.g. 0,1,2 (0)")
    what.add_argument("--order", default="published", help="published, alphabetical, reversed or random:SEED")
    what.add_argument(
        "--plugin", type=Path, action="append", default=[], help="a method, detector or reader file; repeatable"
    )
    how = run.add_argument_group("at what size")
    how.add_argument(
        "--data", type=Path, default=os.environ.get("BENCH_DATA"), help="folder of the data set (or $BENCH_DATA)"
    )
    how.add_argument("--size", choices=("tiny", "paper"), help="default: tiny where no data set is needed, else paper")
    how.add_argument(
        "--backbone", help="timm name, with arguments after a colon: mobilenetv2_100:pad_type=same,mean=0.5,std=0.5"
    )
    how.add_argument("--weights", help="imagenet, procedural, random, or a .safetensors file")
    how.add_argument("--image-size", type=int, help="px; default: the stream's")
    how.add_argument(
        "--set", action="append", default=[], metavar="OWNER.OPTION=VALUE", help="e.g. replay.memory=40; repeatable"
    )
    where = run.add_argument_group("where and how")
    _results(where)
    where.add_argument("--cache", type=Path, default=Path(".cache"), help="folder of decoded images (%(default)s)")
    where.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    where.add_argument("--jobs", type=int, help="cells at a time (CPU: one per core, at most 8; GPU: 1)")
    where.add_argument("--threads", type=int, default=1, help="CPU threads per cell; changes last bits (%(default)s)")
    where.add_argument(
        "--redo", choices=("missing", "failed", "all"), default="missing", help="which cells to run (%(default)s)"
    )
    where.add_argument("--plan", action="store_true", help="print what would run, and stop")
    where.add_argument("--keep", action="store_true", help="keep weights and memory after every step, for bench figure")
    where.add_argument(
        "--save-maps", action="store_true", help="store anomaly maps (16 bits) beside the scores, for bench score"
    )
    where.add_argument(
        "--audit", action="store_true", help="run each cell again, every step in a process of its own: same scores?"
    )
    where.add_argument("--logger", type=_names, default=(), help="csv, tensorboard, wandb")


def _do_run(options) -> int:
    from bench.session import run

    return run(options)


def _list(commands) -> None:
    command = _command(commands, "list", _do_list, "list methods, detectors and scenarios, and what each needs")
    command.add_argument("kind", nargs="?", choices=("methods", "detectors", "scenarios"))
    command.add_argument("--plugin", type=Path, action="append", default=[])


def _do_list(options) -> None:
    from bench.catalogue import listing

    print(listing(options.kind, options.plugin))


def _leaderboard(commands) -> None:
    command = _command(
        commands, "leaderboard", _do_leaderboard, "regenerate leaderboard.md and CSV from the cell files; runs nothing"
    )
    _results(command)
    command.add_argument("--out", type=Path, help="default: leaderboard.md beside the results folder")
    command.add_argument("--check", action="store_true", help="write nothing; exit 1 if the committed tables are stale")


def _do_leaderboard(options) -> int:
    from bench import leaderboard

    if options.check:
        stale = leaderboard.check(options.results, options.out)
        print(stale or f"the leaderboard is what {options.results} says")
        return 1 if stale else 0
    for path in leaderboard.write(options.results, options.out):
        print(f"wrote {path}")
    return 0


def _data(commands) -> None:
    command = _command(
        commands, "data", _do_data, "check a data folder, or download a data set where its source allows it"
    )
    actions = command.add_subparsers(required=True, dest="action", metavar="ACTION")
    check = actions.add_parser("check", help="what is there, what is missing, fingerprint")
    check.add_argument("folder", type=Path)
    order = actions.add_parser("order", help="the test images of a stream in the order of a submission's scores")
    order.add_argument("stream", help="for example mvtec/1x15, or a YAML file")
    order.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="folder of the data set")
    order.add_argument("--plugin", type=Path, action="append", default=[], help="the file of a reader; repeatable")
    download = actions.add_parser("download", help="fetch a data set")
    download.add_argument("name", choices=("mvtec", "visa"))
    download.add_argument("--to", type=Path, default=Path("data"))


def _do_data(options) -> None:
    from bench.data import check, download

    if options.action == "order":
        from bench.data.order import order
        from bench.stream import load

        for line in order(load(options.stream), options.data and Path(options.data), options.plugin):
            print(line)
    elif options.action == "check":
        print(check.check(options.folder))
    else:
        print(download.download(options.name, options.to))


def _published(commands) -> None:
    command = _command(commands, "published", _do_published, "the numbers that papers print, with source and trust tag")
    command.add_argument("--lint", action="store_true", help="find inconsistencies; exit 1 on unknown ones")
    command.add_argument("--method", default="", help="part of the name")
    command.add_argument("--dataset", default="")
    command.add_argument("--metric", default="")


def _do_published(options) -> int:
    from bench import lint, published

    if options.lint:
        text, code = lint.report(published.load())
        print(text)
        return code
    print(published.table(method=options.method, dataset=options.dataset, metric=options.metric))
    return 0


def _show(commands) -> None:
    command = _command(commands, "show", _do_show, "R per metric, cost and environment of one cell")
    command.add_argument("cell", help="path of a cell file, or scenario/method+detector/seed-k")
    _results(command)


def _do_show(options) -> None:
    from bench.show import show

    print(show(options.cell, options.results))


COMPARISONS = """examples:
  python -m bench compare cl_patchcore+patchcore replay+patchcore --scenario synthetic/1x6
  python -m bench compare --cd                       # methods ranked over every scenario × detector that has them
  python -m bench compare --cd finetune replay ewc
"""


def _compare(commands) -> None:
    command = _command(
        commands, "compare", _do_compare, "is one system better than another, or one method than the rest", COMPARISONS
    )
    command.add_argument("systems", nargs="*", metavar="SYSTEM", help="method+detector[,options], as cells are named")
    command.add_argument("--cd", action="store_true", help="rank three or more over scenarios: critical differences")
    command.add_argument("--scenario", default="", help="default: every scenario that has them")
    command.add_argument("--metric", default="image_auroc", help="%(default)s, aupro, pixel_ap, ...")
    _results(command)


def _do_compare(options) -> None:
    from bench import paired, ranking

    if options.cd:
        print(ranking.compare(options.systems, options.results, options.metric, options.scenario), end="")
    elif len(options.systems) == 2:
        print(paired.compare(*options.systems, options.results, options.metric, options.scenario), end="")
    else:
        raise BadInput(f"{len(options.systems)} systems given: name two as method+detector, or rank more with --cd")


def _report(commands) -> None:
    command = _command(commands, "report", _do_report, "the results as a static HTML site; opens without a network")
    command.add_argument("--out", type=Path, default=Path("out/report"), help="folder to write (%(default)s)")
    command.add_argument(
        "--gallery", action="store_true", help="also test images of runs that were run with --save-maps"
    )
    _truth(command)
    _results(command)


def _do_report(options) -> None:
    from bench import report

    print(f"wrote {report.write(options.results, options.out, options if options.gallery else None)}")


FIGURES = """examples:
  python -m bench run --methods scale --detectors vae --keep --results out/results
  python -m bench figure synthetic/1x6/scale+vae/seed-0 --class gear --results out/results
"""


def _figure(commands) -> None:
    command = _command(
        commands, "figure", _do_figure, "pictures of what a cell run with --keep sees and what it remembers", FIGURES
    )
    command.add_argument("cell", help="path of a cell file, or scenario/method+detector/seed-k")
    command.add_argument("--class", dest="category", help="default: every class of the stream")
    command.add_argument("--step", type=int, help="after which step, from 1; default: the last")
    command.add_argument("--images", type=_seeds, help="places in the class's test set; default: normal and anomalous")
    command.add_argument("--out", type=Path, default=Path("out/figures"), help="folder of the PNG files (%(default)s)")
    command.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="folder of the data set")
    command.add_argument("--weights", help="the .safetensors file, where the cell was run with one")
    command.add_argument("--scenario", help="the YAML file, where the cell was run with one")
    command.add_argument("--plugin", type=Path, action="append", default=[], help="as given to bench run")
    command.add_argument("--cache", type=Path, default=Path(".cache"), help="folder of decoded images (%(default)s)")
    command.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    _results(command)


def _do_figure(options) -> None:
    from bench.figure import figure

    for path in figure(options):
        print(f"wrote {path}")


def _score(commands) -> None:
    command = _command(
        commands, "score", _do_score, "every metric of a cell anew from its stored scores and maps; runs nothing"
    )
    command.add_argument("cell", help="path of a cell file, or scenario/method+detector/seed-k, with * and ?")
    command.add_argument("--images-only", action="store_true", help="leave pixel metrics empty where there are no maps")
    _truth(command)
    _results(command)


def _truth(command: argparse.ArgumentParser) -> None:
    """What is needed to find the truth of a scenario's test images."""
    command.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="folder of the data set")
    command.add_argument("--scenario", help="the YAML file, where the stream is none of those shipped")
    command.add_argument("--plugin", type=Path, action="append", default=[], help="the file of a reader; repeatable")
    command.add_argument("--cache", type=Path, default=Path(".cache"), help="folder of decoded images (%(default)s)")


def _do_score(options) -> None:
    from bench.rescore import score

    for line in score(options):
        print(line)


def _submit(commands) -> None:
    command = _command(
        commands,
        "submit",
        _do_submit,
        "check somebody's scores for a scenario, score them, enter them as external",
    )
    command.add_argument("folder", type=Path, help="with submission.yaml and scores.npz: see docs/submissions.md")
    _truth(command)
    _results(command)


def _do_submit(options) -> None:
    from bench.submission import submit

    for line in submit(options):
        print(line)


def _worker(commands) -> None:
    command = _command(
        commands, "worker", _do_worker, "let a system in an environment of its own take part, over files"
    )
    actions = command.add_subparsers(required=True, dest="action", metavar="ACTION")
    export = actions.add_parser("export", help="write the images that it may see, step by step")
    export.add_argument("scenario", help="for example mvtec/1x15, or a YAML file")
    export.add_argument("--to", type=Path, required=True, help="a new folder")
    export.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="folder of the data set")
    export.add_argument("--order", default="published", help="published, alphabetical, reversed or random:SEED")
    export.add_argument("--seed", type=int, default=0, help="that it is to start from (%(default)s)")
    export.add_argument("--capabilities", type=_capabilities, default=(), help="labels, task_oracle, reads_ahead")
    export.add_argument("--plugin", type=Path, action="append", default=[], help="the file of a reader; repeatable")
    export.add_argument("--cache", type=Path, default=Path(".cache"), help="folder of decoded images (%(default)s)")
    collect = actions.add_parser("collect", help="turn its answers into a submission")
    collect.add_argument("folder", type=Path, help="as given to --to")


def _capabilities(text: str) -> tuple[str, ...]:
    from typing import get_args

    from bench.cell import Capability

    unknown = [name for name in _names(text) if name not in get_args(Capability)]
    if unknown:
        raise argparse.ArgumentTypeError(f"no capability {unknown[0]!r}: there are {', '.join(get_args(Capability))}")
    return _names(text)


def _do_worker(options) -> None:
    from bench import worker

    for line in (worker.export if options.action == "export" else worker.collect)(options):
        print(line)


def _pretrain(commands) -> None:
    command = _command(commands, "pretrain", _do_pretrain, "train the small networks of the embedded stream anew")
    command.add_argument("what", choices=("features", "prior"), help="a backbone, or a text-to-image diffusion model")
    command.add_argument("--out", type=Path, help="file or folder to write; default: the committed one")
    command.add_argument("--seed", type=int, default=0)


def _do_pretrain(options) -> None:
    from bench import pretrain, prior

    train = {"features": pretrain.features, "prior": prior.prior}[options.what]
    print(train(out=options.out, seed=options.seed))
