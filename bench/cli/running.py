"""Commands that run something: cells, pictures of them, and the training of the small networks."""

import argparse
import os
import textwrap
from pathlib import Path
from shutil import get_terminal_size

from bench.cli.arguments import (
    EXAMPLES,
    between,
    comma_separated,
    gigabytes,
    new_command,
    not_negative,
    results_folder,
    share,
    whole_numbers,
)
from bench.errors import BadInput

MANY = 10**6  # more cells, steps or minutes than anybody means


def add_run(commands) -> argparse.ArgumentParser:
    run = new_command(
        commands, "run", "run cells (method × detector × scenario × seed), then the leaderboard", EXAMPLES
    )
    what = run.add_argument_group("what to compare")
    what.add_argument("--methods", type=comma_separated, help="comma-separated names, or all")
    what.add_argument(
        "--protocol",
        help="that rows were run by (bench list protocols): it fixes sizes, detectors, seeds and orders, and ends with "
        "what of yours is shown beside them",
    )
    _add_part(what)
    what.add_argument(
        "--plugin", type=Path, action="append", default=[], help="a method, detector or reader file; repeatable"
    )
    how = run.add_argument_group("at what size, with which networks")
    how.add_argument("--size", choices=("tiny", "paper"), help="default: tiny where no data set is needed, else paper")
    how.add_argument("--image-size", type=between(8, 4096, "image size in px"), help="px; default: the stream's")
    how.add_argument(
        "--backbone", help="timm name, with arguments after a colon: mobilenetv2_100:pad_type=same,mean=0.5,std=0.5"
    )
    how.add_argument(
        "--set", action="append", default=[], metavar="OWNER.OPTION=VALUE", help="e.g. replay.memory=40; repeatable"
    )
    how.add_argument("--precision", choices=("float32", "bfloat16"), help="of detectors' networks (float32)")
    how.add_argument(
        "--auto-batch",
        action="store_true",
        help="where a training batch does not fit the memory: smaller parts, gradients added up; the same gradient but "
        "for batch norms and losses that compare images of a batch",
    )
    tested = run.add_argument_group("what is tested when")
    rarely = tested.add_mutually_exclusive_group()
    rarely.add_argument(
        "--eval-every",
        type=between(1, MANY, "number of steps"),
        metavar="N",
        help="test all classes seen after every N-th step and the last, and a class just learned in any case (1)",
    )
    rarely.add_argument(
        "--eval-final", dest="eval_every", action="store_const", const=0, help="... after the last step only"
    )
    tested.add_argument(
        "--eval-ahead", action="store_true", help="test classes before they are learned, too: forward transfer"
    )
    tested.add_argument(
        "--holdout",
        type=share,
        metavar="SHARE",
        help="of each class's training images, to set thresholds on; no method trains on them (default: the stream's)",
    )
    _add_where(run)
    return run


def _add_part(what) -> None:
    what.add_argument("--detectors", type=comma_separated, help="names, or all; without it each method's default")
    what.add_argument("--scenario", type=comma_separated, help="streams, or a YAML file (synthetic/1x6)")
    what.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="data folder (or $BENCH_DATA)")
    what.add_argument("--weights", help="imagenet, procedural, random, or a .safetensors file")
    what.add_argument("--seeds", type=whole_numbers, help="whole numbers, e.g. 0,1,2 (0)")
    what.add_argument(
        "--order",
        type=comma_separated,
        help="published, alphabetical, reversed or random:SEED; several with commas (published)",
    )


def _add_where(run) -> None:
    which = run.add_argument_group("which cells run")
    which.add_argument("--plan", action="store_true", help="print what would run and cost, and stop")
    which.add_argument(
        "--redo",
        choices=("missing", "failed", "changed", "disturbed", "all"),
        default="missing",
        help="which cells to run; changed: measured with other code, data or settings than now; disturbed: while "
        "others used the machine, so that they have no times: run them with --jobs 1 (%(default)s)",
    )
    kept = run.add_argument_group("what is kept")
    results_folder(kept)
    kept.add_argument("--keep", action="store_true", help="weights and memory after every step, for bench figure")
    kept.add_argument(
        "--save-maps", action="store_true", help="anomaly maps (16 bits) beside the scores, for bench score"
    )
    kept.add_argument("--logger", type=comma_separated, default=(), help="csv, tensorboard, wandb")
    where = run.add_argument_group("on this machine")
    where.add_argument("--device", default="auto", help="auto, cpu, cuda, or another of PyTorch's (%(default)s)")
    where.add_argument(
        "--jobs",
        type=between(1, MANY, "number of cells"),
        help="cells at a time (CPU: one per core, at most 8; GPU: 1)",
    )
    where.add_argument(
        "--threads",
        type=between(1, 1024, "number of threads"),
        default=1,
        help="CPU threads per cell; changes last bits (%(default)s)",
    )
    where.add_argument("--cache", type=Path, default=Path(".cache"), help="folder of decoded images (%(default)s)")
    where.add_argument(
        "--feature-cache",
        type=gigabytes,
        default=0.0,
        metavar="GB",
        help="keep features of frozen networks in the cache, for all cells: same scores, no times in tables (0)",
    )
    where.add_argument(
        "--no-wall", action="store_true", help="methods in this very process, for a debugger; such rows never rank"
    )
    _add_backends(run)


CLUSTER = "Results, data and cache are best in folders that all machines see;\nray also does without."


def _add_backends(run) -> None:
    far = run.add_argument_group("on a cluster", CLUSTER)
    far.add_argument("--backend", choices=("local", "ray", "slurm"), default="local", help="default: this machine")
    far.add_argument(
        "--gpus-per-cell", type=not_negative, metavar="N", help="0.5: two cells share one (Ray); default: 0"
    )
    far.add_argument("--cpus-per-cell", type=not_negative, metavar="N", help="default: --threads")
    far.add_argument("--address", help="of the Ray cluster: auto, local, HOST:PORT or ray://HOST:PORT; default: auto")
    far.add_argument("--partition", help="of Slurm; default: its own")
    far.add_argument(
        "--time",
        type=between(1, MANY, "number of minutes"),
        metavar="MINUTES",
        help="after which Slurm queues a cell again; default: 120",
    )
    far.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION=VALUE", help="more of Slurm: account=lab; repeatable"
    )
    far.add_argument("--slurm-folder", type=Path, help="of scripts and logs, seen by all machines; default: logs")
    far.add_argument("--dry-run", action="store_true", help="print the script for sbatch, submit nothing")


REPRODUCE = """examples:
  python -m bench reproduce replaycad --plan    # needs no data
  python -m bench reproduce cl_patchcore --data DIR
"""


def add_reproduce(commands) -> argparse.ArgumentParser:
    command = new_command(
        commands, "reproduce", "run what a paper ran; measured beside printed, with a verdict", REPRODUCE
    )
    command.add_argument("protocol", metavar="PAPER", help="as in bench list papers; docs/reproduce.md tells of them")
    fixed = ("methods", "size", "backbone", "image_size", "eval_every", "eval_ahead", "holdout", "precision")
    command.set_defaults(**dict.fromkeys((*fixed, "auto_batch")), set=[], plugin=[])
    _add_part(command.add_argument_group("what of it, on what"))
    _add_where(command)
    return command


def do_reproduce(options) -> int:
    from bench.schema import protocol as protocols

    if not protocols.load_protocol(options.protocol).paper:
        raise BadInput(f"{options.protocol} is no paper's protocol: bench run --protocol {options.protocol} runs it.")
    return do_run(options)


def do_run(options) -> int:
    from rich.console import Console

    from bench import results, session
    from bench.render import plans
    from bench.render.outcome import fate_lines, other_detectors, tables
    from bench.results import stored
    from bench.schema import protocol as protocols

    protocol = protocols.load_protocol(options.protocol) if options.protocol else None
    request, execution = asked(options, protocol)
    if protocol:
        print(plans.heading(protocol), flush=True)
    if options.plan or (protocol and protocol.paper):  # the fate of each cell, and what it will cost
        planned = session.plan(request, execution)
        print(plans.plan_text(planned.cells, planned.fates, *session.estimates(planned, execution)), flush=True)
    if options.plan:
        return 0
    if options.dry_run:
        print(session.script(request, execution) or "nothing to submit: all cells are finished.")
        return 0
    outcome, root = session.run(request, execution), execution.results
    print("\n".join(fate_lines(outcome)))
    if request.save_maps:
        files = [stored.scores_path(results.cell_path(root, cell.spec)) for cell in outcome.todo]
        sizes = [file.stat().st_size for file in files if file.is_file()]
        print(f"scores and maps of {len(sizes)} cells: {sum(sizes):,} bytes, beside their files in {root}.")
    for hint in other_detectors(outcome.cells, request.plugins):
        print(hint)
    for path in outcome.written:
        print(f"wrote {path}")
    asked_for = [results.cell_path(root, cell.spec) for cell in outcome.cells if not cell.skip]
    for table in tables(results.read(path) for path in asked_for if path.is_file()):  # finished before or now
        Console(highlight=False).print(table)
    if protocol:
        _tell_verdicts(protocol, outcome, root)
    return 0 if outcome.ok else 1


def _tell_verdicts(protocol, outcome, root: Path) -> None:
    """Of a paper: measured beside printed; of another protocol: tiers, and what the rows are shown to beat."""
    from bench import published
    from bench.render import leaderboard, plans, verdicts

    if told := plans.other_weights(outcome.cells, protocol):
        print(told)
    sections, _ = leaderboard.read_sections(root)
    keys = {cell.key for cell in outcome.cells if not cell.skip}
    if protocol.paper:
        print(verdicts.beside_paper(sections, keys, published.load_published()))
    else:
        print(verdicts.verdicts(sections, keys, protocol.budget_mb))


def asked(options, protocol=None):
    """What the parsed command line of `bench run` asks for, the rest by the protocol: a request, and how it is run."""
    from dataclasses import fields

    from bench.schema import config
    from bench.schema.execution import Execution
    from bench.schema.request import Request

    given = vars(options) | {
        "scenarios": options.scenario,
        "orders": options.order,
        "data": options.data and Path(options.data),
        "overrides": config.parse(options.set),
        "plugins": tuple(options.plugin),
        "loggers": options.logger,
        "sbatch": tuple(options.sbatch),
        "outline": options.plan and options.data is None,
    }
    execution = Execution(**{field.name: given[field.name] for field in fields(Execution)})
    # What was not given is left to the protocol, or to the defaults of the request.
    given = {field.name: given[field.name] for field in fields(Request)}
    given = {name: value for name, value in given.items() if value is not None and value is not False}
    if protocol:
        given = protocol.request(given)
        if protocol.weights_sha256 and not ("weights" in given or "outline" in given):
            raise BadInput(
                f"protocol {protocol.name} runs on {protocol.weights}: give the file with --weights "
                f"(sha256 {protocol.weights_sha256})."
            )
    elif "methods" not in given:
        raise BadInput("nothing to compare: give --methods, or the --protocol that names them.")
    return Request(**given), execution


FIGURES = """examples:
  python -m bench run --methods scale --detectors vae --keep --results out
  python -m bench figure synthetic/1x6/scale+vae/seed-0 --results out
"""


def add_figure(commands) -> argparse.ArgumentParser:
    command = new_command(
        commands, "figure", "pictures of what a cell run with --keep sees and what it remembers", FIGURES
    )
    command.add_argument("cell", help="path of a cell file, or scenario/method+detector/seed-k")
    command.add_argument("--class", dest="category", help="default: every class of the stream")
    command.add_argument(
        "--step", type=between(1, MANY, "number of steps"), help="after which step, from 1; default: the last"
    )
    command.add_argument(
        "--images", type=whole_numbers, help="places in the class's test set; default: normal and anomalous"
    )
    command.add_argument("--out", type=Path, default=Path("out/figures"), help="folder of the PNG files (%(default)s)")
    command.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="folder of the data set")
    command.add_argument("--weights", help="the .safetensors file, where the cell was run with one")
    command.add_argument("--scenario", help="the YAML file, where the cell was run with one")
    command.add_argument("--plugin", type=Path, action="append", default=[], help="as given to bench run")
    command.add_argument("--cache", type=Path, default=Path(".cache"), help="folder of decoded images (%(default)s)")
    command.add_argument("--device", default="cpu", help="cpu, cuda, or another of PyTorch's (%(default)s)")
    results_folder(command, read_only=True)
    return command


def do_figure(options) -> None:
    from bench.render.figure import figure

    for path in figure(options):
        print(f"wrote {path}")


ADVICE = """examples:
  python -m bench data sample --to line      # a folder to try it on
  python -m bench advise --data line --minutes 5
"""


def add_advise(commands) -> argparse.ArgumentParser:
    command = new_command(commands, "advise", "which method suits your own images: folder in, paragraph out", ADVICE)
    command.add_argument("--data", type=Path, required=True, help="a folder per class; masks and defects are optional")
    command.add_argument(
        "--minutes", type=between(1, MANY, "number of minutes"), default=30, help="about (%(default)s)"
    )
    command.add_argument("--out", type=Path, default=Path("out/advice"), help="folder to write (%(default)s)")
    command.add_argument("--size", choices=("tiny", "paper"), default="tiny", help="of the networks (%(default)s)")
    command.add_argument("--backbone", help="timm name, as for bench run")
    command.add_argument("--weights", help="imagenet, procedural, or a .safetensors file, as for bench run")
    return command


def do_advise(options) -> None:
    from bench.advise import advise

    chosen = {name: getattr(options, name) for name in ("size", "backbone", "weights")}
    found = advise(options.data, options.out, options.minutes, **chosen)
    print(f"\n{textwrap.fill(found.paragraph, get_terminal_size().columns - 1)}\n")
    for path in found.written:
        print(f"wrote {path}")


def add_doctor(commands) -> argparse.ArgumentParser:
    command = new_command(
        commands, "doctor", "what this machine has for a run: versions, device, memory, disk, weights"
    )
    results_folder(command)
    command.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="folder of the data set")
    command.add_argument("--cache", type=Path, default=Path(".cache"), help="folder of decoded images (%(default)s)")
    return command


def do_doctor(options) -> int:
    from bench.cli import doctor

    found = doctor.examine(options.results, options.cache, options.data)
    for level, sentence in found:
        print(textwrap.fill(f"{level:8}{sentence}", get_terminal_size().columns - 1, subsequent_indent=" " * 8))
    missing = sum(level == doctor.MISSING for level, _ in found)
    print(f"{missing} to mend before a run." if missing else "nothing stands in the way of a run.")
    return 1 if missing else 0


def add_check(commands) -> argparse.ArgumentParser:
    command = new_command(
        commands, "check", "does a method, detector or reader keep the contract: rule by rule, what to do"
    )
    command.add_argument("files", nargs="+", metavar="FILE", help="a Python file, or a name as in bench list")
    command.add_argument("--plugin", type=Path, action="append", default=[], help="another that it needs; repeatable")
    return command


def do_check(options) -> int:
    from bench.backends import pool
    from bench.contract import check_contract, entries_to_check

    failed = 0
    for entry, plugins in entries_to_check(options.files, options.plugin):
        print(f"{entry.kind} {entry.name} ({entry.file})", flush=True)
        _ = entry.declared  # told before anything heavy is imported
        failed += pool.call(pool.cell_server(), check_contract, entry, plugins, _tell_rule)
    print(f"{failed} to mend." if failed else "nothing to mend.")
    return int(bool(failed))


def add_new(commands) -> argparse.ArgumentParser:
    command = new_command(
        commands, "new", "write the file of a method or a detector that keeps the contract, to change from there"
    )
    command.add_argument("kind", choices=("method", "detector"))
    command.add_argument("name", help="of the file and of what is in it: thumbnails gives thumbnails.py")
    command.add_argument("--to", type=Path, default=Path(), help="folder (this one)")
    return command


def do_new(options) -> None:
    from bench.contract.skeleton import write_skeleton

    file = write_skeleton(options.kind, options.name, options.to)
    print(f"wrote {file}: change it, try it with `python -m bench check {file}`, run it with --plugin {file}")


def _tell_rule(rule: str, todo: str) -> None:
    print(f"  MEND  {rule}:\n        {todo}" if todo else f"  ok    {rule}", flush=True)
