"""What rows are called: method, options and marks, and whatever else tells two of them apart."""

import re
from collections.abc import Iterable
from pathlib import PurePath

from bench.analysis.summary import one_kind_only
from bench.schema.cell import Spec
from bench.schema.record import Record

MARKS = {"reads_ahead": "†", "task_oracle": "‡", "labels": "§", "unlimited_memory": "∞"}
EXTERNAL = "¶"
FRAME = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)  # of a traceback
NOT_OWN = re.compile(
    r"^<|[/\\](site-packages|bench|lib[/\\]python[\d.]+)[/\\]"
)  # the libraries' frames and the bench's


def labels(cells: list[Record]) -> list[str]:
    """Method, options and marks; where two configurations would read alike, also what differs between them."""
    found, shared = [], shared_options(cells)
    names = [_name(cell, shared) for cell in cells]
    for cell, name in zip(cells, names, strict=True):
        alike = [_flat(other["spec"]) for other, same in zip(cells, names, strict=True) if same == name]
        own = _flat(cell["spec"])
        differs = [key for key in own if any(other.get(key, "default") != own[key] for other in alike)]
        told = f" ({', '.join(f'{key}={own[key]}' for key in differs)})" if differs else ""
        found.append(name + told)
    return found


def shared_options(cells: Iterable[Record]) -> list[str]:
    """Options that all cells of a block were run with: told once, in its heading."""
    options = [cell["spec"]["variant"].split(",") for cell in cells]
    return [part for part in dict.fromkeys(options[0]) if part and all(part in other for other in options)]


def _name(cell: Record, shared: list[str]) -> str:
    spec = cell["spec"]
    own = [part for part in dict.fromkeys(spec["variant"].split(",")) if part and part not in shared]
    options = f" ({', '.join(own)})" if own else ""
    marks = [mark for name, mark in MARKS.items() if name in cell["capabilities"]]
    marks += [EXTERNAL] if "external" in spec else []
    return spec["method"] + options + "".join(marks)


def _flat(spec: Spec) -> dict[str, str]:
    """What may differ within a block, one value per name."""
    flat = {f"{spec['method']}.{name}": str(value) for name, value in spec["method_config"].items()}
    flat |= {f"{spec['detector']}.{name}": str(value) for name, value in spec["detector_config"].items()}
    return flat | {"backbone_arguments": str(spec["backbone_arguments"])} | spec.get("external", {})


def averaged_classes(cells: Iterable[Record]) -> str:
    """Which classes metrics are a mean over, in words; "" where all have defects in their test, and masks of these."""
    for cell in cells:
        classes, normal = cell["spec"]["classes"], one_kind_only(cell)
        unmasked = {*(cell.get("unmasked") or ()), *normal}
        texts = [
            f"{what} metrics over {len(classes) - len(without)} of {len(classes)} classes: those with {needed}"
            for what, without, needed in (("image", normal, "anomalous test images"), ("pixel", unmasked, "masks"))
            if without
        ]
        if texts:
            return "; ".join(texts)
    return ""


def odd_data(cells: Iterable[Record]) -> list[str]:
    """What was odd about the images that cells were measured on, each thing once."""
    return list(dict.fromkeys(line for cell in cells for line in cell.get("data", ())))


def last_line(text: str) -> str:
    """Of a traceback: the exception, behind the last line of the plugin's own under way; shortened to fit a table."""
    line = text.strip().splitlines()[-1].strip() if text.strip() else "no reason given"
    own = [(file, number) for file, number in FRAME.findall(text) if not NOT_OWN.search(file)]
    line = f"{PurePath(own[-1][0]).name}:{own[-1][1]}: {line}" if own else line
    return line if len(line) <= 120 else f"{line[:117]}..."
