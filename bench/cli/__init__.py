"""The command line: `python -m bench --help`."""

import argparse
import os
import sys

from bench import __version__
from bench.cli import reading, running, scores
from bench.cli.arguments import EXAMPLES, Parser
from bench.errors import BadInput


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 fine, 1 a check or a cell failed, 2 bad input, 130 interrupted."""
    sys.stdout.reconfigure(errors="backslashreplace")  # a file name may be no UTF-8
    try:
        options = parser().parse_args(arguments)
        return options.command(options) or 0
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(": ".join(["stopped", *stop.args]), file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `bench published | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """Build the argument parser; nothing heavy is imported for it."""
    top = Parser(
        "bench",
        description="Compare continual visual anomaly-detection methods.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    running.add_run(commands)
    running.add_reproduce(commands)
    reading.add_list(commands)
    running.add_advise(commands)
    running.add_doctor(commands)
    running.add_new(commands)
    running.add_check(commands)
    reading.add_leaderboard(commands)
    reading.add_verify(commands)
    scores.add_data(commands)
    reading.add_published(commands)
    reading.add_show(commands)
    reading.add_compare(commands)
    reading.add_report(commands)
    reading.add_paper(commands)
    running.add_figure(commands)
    scores.add_score(commands)
    scores.add_submit(commands)
    scores.add_worker(commands)
    return top
