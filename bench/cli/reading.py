"""Commands that read: what there is, what was measured, what papers print."""

import argparse
from pathlib import Path

from bench.cli.arguments import between, comma_separated, fitted, new_command, results_folder, truth_sources
from bench.errors import BadInput


def add_list(commands) -> argparse.ArgumentParser:
    command = new_command(commands, "list", "list methods, detectors and scenarios, and what each needs")
    command.add_argument("kind", nargs="?", choices=("methods", "detectors", "scenarios", "protocols", "papers"))
    command.add_argument("--plugin", type=Path, action="append", default=[])
    return command


def do_list(options) -> None:
    from bench.cli.catalogue import catalogue_listing

    print(catalogue_listing(options.kind, options.plugin))


def add_leaderboard(commands) -> argparse.ArgumentParser:
    command = new_command(
        commands, "leaderboard", "regenerate leaderboard.md and CSV from the cell files; runs nothing"
    )
    results_folder(command, read_only=True)
    command.add_argument(
        "--out", type=Path, help="default: beside the results folder, leaderboard.md or leaderboard-NAME.md"
    )
    command.add_argument("--check", action="store_true", help="write nothing; exit 1 if the committed tables are stale")
    return command


def do_leaderboard(options) -> int:
    from bench import session
    from bench.render import leaderboard

    if options.check:
        stale = leaderboard.check_leaderboard(options.results, options.out)
        print(stale or f"the leaderboard is what {options.results} says")
        return 1 if stale else 0
    for path in session.leaderboard(options.results, options.out):
        print(f"wrote {path}")
    _, broken = leaderboard.read_sections(options.results)
    for line in broken:
        print(f"left out: {line}")
    return int(bool(broken))


def add_verify(commands) -> argparse.ArgumentParser:
    command = new_command(
        commands,
        "verify",
        "are the results what they say: files, keys, code, numbers, tables made anew and compared; exit 1 if not",
    )
    command.add_argument(
        "cell", nargs="?", help="path of a cell file, or scenario/method+detector/seed-k; default: all"
    )
    command.add_argument(
        "--sample", type=between(0, 10**6, "number of cells"), default=0, metavar="N", help="run N of them again (0)"
    )
    truth_sources(command)
    command.add_argument("--weights", help="the file, where cells to run again were run with one")
    command.add_argument("--device", default="cpu", help="cpu, cuda, or another of PyTorch's (%(default)s)")
    results_folder(command, read_only=True)
    return command


def do_verify(options) -> int:
    from bench.exchange.verify import verify

    found = verify(options)
    print(found)
    return int(bool(found.differences))


def add_published(commands) -> argparse.ArgumentParser:
    command = new_command(commands, "published", "the numbers that papers print, with source and trust tag")
    command.add_argument("--lint", action="store_true", help="find inconsistencies; exit 1 on unknown ones")
    command.add_argument("--method", default="", help="part of the name")
    command.add_argument("--dataset", default="")
    command.add_argument("--metric", default="")
    command.add_argument("--classes", action="store_true", help="values of single classes, too")
    return command


def do_published(options) -> int:
    from bench import published
    from bench.published import lint

    if options.lint:
        text, code = lint.lint_report(published.load_published())
        print(fitted(text))
        return code
    chosen = {name: getattr(options, name) for name in ("method", "dataset", "metric", "classes")}
    print(fitted(published.published_table(**chosen)))
    return 0


def add_show(commands) -> argparse.ArgumentParser:
    command = new_command(
        commands, "show", "the best rows of each table, or of one cell R per metric, cost and environment"
    )
    command.add_argument(
        "cell", nargs="?", help="path of a cell file, or scenario/method+detector/seed-k; default: the best of all"
    )
    results_folder(command, read_only=True)
    return command


def do_show(options) -> None:
    from bench.render.show import best_rows, show

    print(fitted(show(options.cell, options.results) if options.cell else best_rows(options.results)))


COMPARISONS = """examples:
  python -m bench compare cl_patchcore+patchcore replay+patchcore
  python -m bench compare --cd finetune replay ewc
      methods ranked over every scenario × detector that has them
"""


def add_compare(commands) -> argparse.ArgumentParser:
    command = new_command(
        commands, "compare", "is one system better than another, or one method than the rest", COMPARISONS
    )
    command.add_argument("systems", nargs="*", metavar="SYSTEM", help="method+detector[,options], as cells are named")
    command.add_argument("--cd", action="store_true", help="rank three or more over scenarios: critical differences")
    command.add_argument("--scenario", default="", help="default: every scenario that has them")
    command.add_argument("--metric", default="image_auroc", help="%(default)s, aupro, pixel_ap, ...")
    results_folder(command, read_only=True)
    return command


def do_compare(options) -> None:
    from bench import session
    from bench.analysis import paired, ranks

    where = {"metric": options.metric, "scenario": options.scenario}
    if options.cd:
        print(fitted(ranks.ranks_text(session.rank(options.systems, options.results, **where), options.metric)), end="")
    elif len(options.systems) == 2:
        found = session.compare(*options.systems, options.results, **where)
        print(fitted("\n\n".join(paired.paired_text(one, options.metric) for one in found)))
    else:
        raise BadInput(f"{len(options.systems)} systems given: name two as method+detector, or rank more with --cd")


def add_report(commands) -> argparse.ArgumentParser:
    command = new_command(commands, "report", "the results as a static HTML site; opens without a network")
    command.add_argument("--out", type=Path, default=Path("out/report"), help="folder to write (%(default)s)")
    command.add_argument(
        "--gallery", action="store_true", help="also test images of runs that were run with --save-maps"
    )
    truth_sources(command)
    results_folder(command, read_only=True)
    return command


def do_report(options) -> None:
    from bench.render import report

    print(f"wrote {report.write_report(options.results, options.out, options if options.gallery else None)}")


PAPERS = """examples:
  python -m bench paper --methods finetune,replay,joint --to out/paper
  cd out/paper && latexmk -pdf paper.tex
"""


def add_paper(commands) -> argparse.ArgumentParser:
    command = new_command(
        commands, "paper", "LaTeX tables, figures, BibTeX, and a paragraph on how it was measured", PAPERS
    )
    command.add_argument(
        "--methods", type=comma_separated, default=(), help="comma-separated names; default: all with rows"
    )
    command.add_argument("--detectors", type=comma_separated, default=(), help="likewise")
    command.add_argument("--scenario", default="", help="default: every scenario that has them")
    command.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to write")
    results_folder(command, read_only=True)
    return command


def do_paper(options) -> None:
    from bench.render.paper import write_paper

    for path in write_paper(options.results, options.to, options.methods, options.detectors, options.scenario):
        print(f"wrote {path}")
