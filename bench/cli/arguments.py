"""What the commands share: how one is added, and arguments that several take."""

import argparse
import math
import os
from contextlib import suppress
from pathlib import Path

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


def new_command(commands, name: str, function, text: str, epilog: str = "") -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.set_defaults(command=function)
    return command


def names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 0,1,2") from None


def steps(text: str) -> int:
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of steps: give 1 or more, or --eval-final instead")


def share(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no share of the training images: give 0.2, or 0 for none")


def gigabytes(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of GB: give 20, or 0 for none")


def results_folder(command: argparse.ArgumentParser) -> None:
    command.add_argument("--results", type=Path, default=Path("results"), help="folder of the cell files (%(default)s)")


def truth_sources(command: argparse.ArgumentParser) -> None:
    """What is needed to find the truth of a scenario's test images."""
    command.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="folder of the data set")
    command.add_argument("--scenario", help="the YAML file, where the stream is none of those shipped")
    command.add_argument("--plugin", type=Path, action="append", default=[], help="the file of a reader; repeatable")
    command.add_argument("--cache", type=Path, default=Path(".cache"), help="folder of decoded images (%(default)s)")


def write_text(path: Path, text: str) -> None:
    """Write a file that the user named; raises BadInput if it cannot be."""
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise BadInput(f"The file {path} cannot be written ({error.strerror}): give another place.") from error
