"""The command line: `python -m bench --help`."""

import argparse
import os
import sys

from bench import __version__
from bench.cli import reading, running, scores
from bench.cli.arguments import EXAMPLES, Parser
from bench.errors import BadInput

# In the order of `--help`: what adds a command with its arguments, and what it does; returns the exit code, or None.
COMMANDS = (
    (running.add_run, running.do_run),
    (running.add_reproduce, running.do_reproduce),
    (reading.add_list, reading.do_list),
    (running.add_advise, running.do_advise),
    (running.add_doctor, running.do_doctor),
    (running.add_new, running.do_new),
    (running.add_check, running.do_check),
    (reading.add_leaderboard, reading.do_leaderboard),
    (reading.add_verify, reading.do_verify),
    (scores.add_data, scores.do_data),
    (reading.add_published, reading.do_published),
    (reading.add_show, reading.do_show),
    (reading.add_compare, reading.do_compare),
    (reading.add_report, reading.do_report),
    (reading.add_paper, reading.do_paper),
    (running.add_figure, running.do_figure),
    (scores.add_score, scores.do_score),
    (scores.add_submit, scores.do_submit),
    (scores.add_worker, scores.do_worker),
)


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
    for add, do in COMMANDS:
        add(commands).set_defaults(command=do)
    return top
