"""What the commands share: how one is added, and arguments that several take."""

import argparse
import difflib
import math
import os
import textwrap
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from shutil import get_terminal_size

from bench.errors import BadInput

LARGEST_SEED = 2**32  # NumPy takes none as large
EXAMPLES = """examples:
  python -m bench run --methods all
      every method on the embedded stream: tiny sizes, no data needed
  python -m bench run --methods finetune,replay,joint --scenario mvtec/10-1x5 \\
      --detectors padim,patchcore --data DIR --seeds 0,1,2
  python -m bench list methods
  python -m bench show synthetic/1x6/replay+reverse_distillation/seed-0
  python -m bench leaderboard --check
"""


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are a `BadInput`: the cause first, with the nearest name that there is."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.set_defaults(parser=self)  # of the innermost command, when all is parsed

    def error(self, message: str):
        raise BadInput(f"{message}. `{self.prog} --help` tells what there is.")

    def parse_args(self, arguments=None, namespace=None):
        options, surplus = self.parse_known_args(arguments, namespace)
        parser = vars(options).pop("parser")
        if surplus:
            flags = [flag for flag in parser._option_string_actions if flag.startswith("--")]
            parser.error(f"no argument {surplus[0]!r}{nearest(surplus[0].partition('=')[0], flags)}")
        return options

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            known = ", ".join(map(str, action.choices))
            hint = nearest(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f"no {value!r}{hint}; there are {known}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A question that names the known one which `name` may have been meant for; "" if none is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def new_command(commands, name: str, text: str, epilog: str = "") -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=text,
        description=textwrap.fill(text, get_terminal_size().columns - 2),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def comma_separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def whole_numbers(text: str) -> tuple[int, ...]:
    """A list of different numbers from 0, as in 0,1,2."""
    parts = comma_separated(text)
    if not parts or not all(part.isascii() and part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers from 0, such as 0,1,2")
    numbers = tuple(map(int, parts))
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise argparse.ArgumentTypeError(f"{text!r} names {twice[0]} twice: name each once")
    if max(numbers) >= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{max(numbers)} is too large: give numbers below 2**32")
    return numbers


def capability_names(text: str) -> tuple[str, ...]:
    from typing import get_args

    from bench.schema.cell import Capability

    unknown = [name for name in comma_separated(text) if name not in get_args(Capability)]
    if unknown:
        raise argparse.ArgumentTypeError(f"no capability {unknown[0]!r}: there are {', '.join(get_args(Capability))}")
    return comma_separated(text)


def between(low: int, high: int, what: str) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `low` to `high`, `what` saying of what."""

    def number(text: str) -> int:
        with suppress(ValueError):
            if low <= int(text) <= high:
                return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}: give a whole number from {low} to {high}")

    return number


def not_negative(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number that is not negative, such as 0.5 or 1")


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


def results_folder(command: argparse.ArgumentParser, *, read_only: bool = False) -> None:
    """`--results`; a command that only reads makes no folder of a misspelt name."""
    command.add_argument(
        "--results",
        type=_folder if read_only else Path,
        default="results",
        help="folder of the cell files (%(default)s)",
    )


def _folder(text: str) -> Path:
    if Path(text).is_dir():
        return Path(text)
    beside = (path.name for path in Path(text).absolute().parent.glob("*") if path.is_dir())
    hint = nearest(Path(text).name, beside)
    raise argparse.ArgumentTypeError(f"no folder {text!r}{hint}: give the one that `bench run` wrote its results to")


def truth_sources(command: argparse.ArgumentParser) -> None:
    """What is needed to find the truth of a scenario's test images."""
    command.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="folder of the data set")
    command.add_argument("--scenario", help="the YAML file, where the stream is none of those shipped")
    command.add_argument("--plugin", type=Path, action="append", default=[], help="the file of a reader; repeatable")
    command.add_argument("--cache", type=Path, default=Path(".cache"), help="folder of decoded images (%(default)s)")


def fitted(text: str) -> str:
    """The same, lines that are wider than the terminal (80 columns without one) broken and indented."""
    width = get_terminal_size().columns - 1
    lines = []
    for line in text.split("\n"):
        margin = line[: len(line) - len(line.lstrip())]
        how = {"initial_indent": margin, "subsequent_indent": f"{margin}    "}
        lines.append(line if len(line) <= width else textwrap.fill(line.strip(), width, break_on_hyphens=False, **how))
    return "\n".join(lines)


def write_text(path: Path, text: str) -> None:
    """Write a file that the user named; raises BadInput if it cannot be."""
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise BadInput(f"The file {path} cannot be written ({error.strerror}): give another place.") from error
