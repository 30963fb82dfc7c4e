"""A folder of results: which cells count, where their files lie, how the folder is saved and locked."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.errors import BadInput
from bench.schema.cell_json import plain
from bench.schema.disk import check_disk, lock, replace
from bench.schema.record import Record
from bench.schema.spec import cell_path, key_of

__all__ = ["blank", "cell_path", "check_disk", "kept", "key_of", "lock", "plain"]
__all__ += ["read", "replace", "rewrite", "scan", "write_cell"]

blank, read = Record.blank, Record.read


def write_cell(root: Path, cell: Mapping) -> Path:
    """Write a record to its place below `root`, as `Record.write` does; returns the path."""
    record = Record.of(cell)
    path = record.path(root)
    record.write(path)
    return path


def rewrite(path: Path, cell: Mapping) -> None:
    """Write a record where it lies, in one move."""
    Record.of(cell).write(path)


def kept(path: Path, step: int) -> Path:
    """Where `--keep` leaves the weights and the memory after `step` (0-based) of the cell file `path`."""
    return path.with_suffix(f".step-{step}.ckpt")


def scan(root: Path) -> Iterator[tuple[Path, Record | BadInput]]:
    """Every cell file under `root` by path, in order; one that cannot be read, or that is a copy, as the BadInput that
    says why. A cell counts once, at the path of its spec."""
    for path in sorted(Path(root).rglob("seed-*.json")):
        try:
            record = Record.read(path)
            own = record.path(root)
            if path != own:
                place = own.relative_to(root)
                raise BadInput(
                    f"{path} does not count: a cell of this spec lies at {place} only. "
                    + (
                        f"Is {root} a part of a results folder? Give the whole one."
                        if place.as_posix().endswith(f"/{path.relative_to(root).as_posix()}")
                        else "Is it a copy? Move it out of the results folder."
                    )
                )
            yield path, record
        except BadInput as error:
            yield path, error
