"""What papers print: every number with its source, trust tag, protocol and definition of forgetting."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench.errors import BadInput

FOLDER = Path(__file__).parent / "tables"
TOLERANCE = 0.02  # two points: about the spread that seeds and library versions cause in this field

TRUST = {
    "primary": "read in the source that measured it",
    "copied": "printed by a paper that re-ran some rivals and copied others, without saying which",
    "figure": "read off a figure by eye",
    "abstract": "claimed in an abstract, no table seen",
    "secondary": "from a review note or aggregator, not checked against the paper",
}

# id of bench.metrics.definitions.DEFINITIONS and DEFINITIONS_OF_TWO_RUNS -> what it means
FORGETTING = {
    "forgetting": "best earlier value minus final value, mean over old classes (Chaudhry)",
    "forgetting_per_step": "'average decrease' over steps, no formula or code published",
    "forgetting_relative_off_by_one": "relative drop since just learned, in a script that skips one of the old classes",
    "bank_size_difference": "gap between two runs with different memory sizes: not forgetting",
    "joint_minus_replay": "joint training on real minus on replayed images: no sequence in it",
    "unstated": "the source does not say",
}

# Our method + detector -> the names under which papers print that system.
PRINTED_AS = {
    ("finetune", "patchcore"): ("FT PatchCore",),
    ("finetune", "cfa"): ("FT CFA",),
    ("finetune", "reverse_distillation"): ("FT RD4AD",),
    ("joint", "patchcore"): ("Joint PatchCore", "PatchCore"),
    ("joint", "reverse_distillation"): ("RD",),
    ("joint", "cfa"): ("CFA",),
    ("joint", "draem"): ("DRAEM",),
    ("joint", "invad"): ("InvAD",),
    ("cl_patchcore", "patchcore"): ("PatchCore (CL-30000)",),
    ("cl_padim", "padim"): ("PaDiM (CL)",),
    ("replay", "patchcore"): ("PatchCore+replay100",),
    ("replay", "efficientad"): ("EfficientAD (replay-300)", "EfficientAD+replay100"),
    ("replay", "fastflow"): ("FastFlow (replay-300)",),
    ("replay", "stfpm"): ("STFPM (replay-300)",),
    ("replay", "draem"): ("DRAEM (replay-300)",),
    ("replay", "cfa"): ("CFA (replay-300)",),
    ("replaycad", "invad"): ("ReplayCAD",),
    ("one_for_more", "amn_diffusion"): ("CDAD",),
    ("single", "ddad"): ("DDAD",),
    ("ucad", "prompted_bank"): ("UCAD",),
    ("dinosaur", "position_bank"): ("DINOSaur",),
}


class Published(NamedTuple):
    """One printed number. `scenario` is ours ("mvtec/1x15"), "<data set>/*" where order plays no part, or ""."""

    source: str
    trust: str  # a key of TRUST
    protocol: str
    scenario: str
    dataset: str
    scope: str  # "macro over classes", "class bottle", ...
    metric: str
    method: str
    value: float  # 0..1
    fm: float | None  # 0..1, as printed
    fm_def: str  # a key of FORGETTING, "" without fm
    resolution: str  # px
    note: str

    @property
    def of_class(self) -> str:
        """The class that the number is of, "" for an average."""
        return self.scope.removeprefix("class ") if self.scope.startswith("class ") else ""


def load_published(folder: Path | None = None) -> list[Published]:
    """All rows of `folder`/*.csv, files in order of name. Raises BadInput for a missing folder or a malformed row."""
    files = sorted(Path(folder or FOLDER).glob("*.csv"))
    if not files:
        raise BadInput(f"no published numbers in {folder or FOLDER}: run inside a clone of the repository")
    return [row for path in files for row in _rows(path)]


def _rows(path: Path) -> Iterable[Published]:
    with open(path, newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                row["value"] = float(row["value"])
                row["fm"] = float(row["fm"]) if row["fm"] else None
                yield Published(**row)
            except (ValueError, TypeError, KeyError) as error:
                raise BadInput(
                    f"{path} line {line} is not a published number ({error}): correct or remove it"
                ) from error


def select(rows: Iterable[Published], method: str = "", dataset: str = "", metric: str = "") -> list[Published]:
    """Rows whose method contains `method` (any case) and whose data set and metric equal the others, where given."""
    return [
        row
        for row in rows
        if method.lower() in row.method.lower() and dataset in ("", row.dataset) and metric in ("", row.metric)
    ]


def contradictions(rows: Iterable[Published]) -> list[list[Published]]:
    """Groups of averages for one method, scenario and metric that differ by more than the tolerance."""
    groups = defaultdict(list)
    for row in rows:
        if row.scenario and not row.of_class:
            groups[row.method, row.scenario, row.metric].append(row)
    spread = {key: max(r.value for r in group) - min(r.value for r in group) for key, group in groups.items()}
    return [groups[key] for key in sorted(groups) if spread[key] > TOLERANCE]


def published_table(
    method: str = "", dataset: str = "", metric: str = "", classes: bool = False, folder: Path | None = None
) -> str:
    """Text for `bench published`: averages (with `classes`, per-class values too); unfiltered, continual ones only.

    Rows of one source, scenario and resolution stand below one heading.
    """
    everything = load_published(folder)
    rows = select(everything, method, dataset, metric)
    if not rows:
        known = ", ".join(sorted({row.method for row in everything}))
        raise BadInput(
            f"no published number for method {method!r}, data set {dataset!r}, metric {metric!r}: there are {known}"
        )
    chosen = [row for row in rows if classes or not row.of_class]
    if not (method or dataset or metric or classes):
        chosen = [row for row in chosen if not row.scenario.endswith("/*")]
    groups = defaultdict(list)
    for row in chosen:
        pixels = f", {row.resolution} px" if row.resolution else ""
        heading = f"{row.scenario or f'{row.dataset}: {row.protocol}'} · {row.source} ({row.trust}{pixels})"
        groups[heading].append(_line(row))
    lines = []
    for heading, group in groups.items():
        name, metric = (max(len(line[place]) for line in group) for place in (0, 1))
        lines += [heading, *(f"  {first:{name}}  {second:{metric}}  {rest}" for first, second, rest in group), ""]
    left = len(rows) - len(chosen)
    lines += [f"{left} more rows (joint references, per-class values): filter, or add --classes.", ""] if left else []
    clashes = []
    for group in contradictions(chosen):
        values = ", ".join(f"{row.value:.3f} ({row.source}, {row.trust})" for row in group)
        clashes.append(f"  {group[0].method}, {group[0].scenario}, {group[0].metric}: {values}")
    if clashes:
        clashes.insert(0, f"sources that differ by more than {TOLERANCE}")
    return "\n".join([*lines, _legend(chosen), *clashes]).rstrip() + "\n"


def _line(row: Published) -> tuple[str, str, str]:
    forgetting = "" if row.fm is None else f"  FM {row.fm:.3f} {row.fm_def}"
    name = f"{row.method} ({row.of_class})" if row.of_class else row.method
    return name, row.metric, f"{row.value:.3f}{forgetting}" + (f"; {row.note}" if row.note else "")


def _legend(rows: list[Published]) -> str:
    trust = [f"  {tag}: {text}" for tag, text in TRUST.items() if any(row.trust == tag for row in rows)]
    forgetting = [f"  {name}: {text}" for name, text in FORGETTING.items() if any(row.fm_def == name for row in rows)]
    return "\n".join(["trust", *trust, *(["FM definition", *forgetting] if forgetting else [])])
