"""Cell files that are JSON of the right keys and yet no result: told by trying all that tables ask of them."""

from collections.abc import Sequence
from pathlib import Path

from bench.analysis.groups import Section, sections
from bench.errors import BadInput
from bench.schema.cell import Cell

FAULTS = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)


def measured(cells: Sequence[Cell]) -> list[Section] | None:
    """Their sections with every figure computed; None where a cell does not hold what tables need."""
    try:
        return _measured(cells)
    except FAULTS:
        return None


def usable(path: Path, cell: Cell) -> Cell | BadInput:
    """The cell, or the BadInput that says which file to repair."""
    try:
        _measured([cell])
        return cell
    except FAULTS as error:
        fault = f"no {error}" if isinstance(error, KeyError) else str(error)
        return BadInput(f"{path} is not a cell file ({fault}): delete it, or run again with --redo all")


def _measured(cells: Sequence[Cell]) -> list[Section]:
    found = sections(cells)
    for row in (row for section in found for row in section.rows):
        row.stat("final_image_auroc")
        row.interval()
    return found
