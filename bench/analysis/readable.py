"""Cell files that are JSON of the right keys and yet no result: told by trying all that tables ask of them."""

from pathlib import Path

from bench.analysis.groups import sections
from bench.errors import BadInput
from bench.schema.cell import Cell


def usable(path: Path, cell: Cell | BadInput) -> Cell | BadInput:
    """The cell, or the BadInput that says which file to repair."""
    if isinstance(cell, BadInput):
        return cell
    try:
        for section in sections([cell]):
            for row in section.rows:
                row.stat("final_image_auroc"), row.stat("carried_mb"), row.interval()
        return cell
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        fault = f"no {error}" if isinstance(error, KeyError) else str(error)
        return BadInput(f"{path} is not a cell file ({fault}): delete it, or run again with --redo all")
