"""The runs that two systems share, aligned by setting, order, seed and class."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from bench.analysis.identity import runs_for_debugging
from bench.analysis.summary import classes_of, final_scores
from bench.errors import BadInput
from bench.metrics.statistics import CrossedMean, SignedRank, crossed_mean, signed_rank
from bench.schema.cell import Cell
from bench.schema.metric import summarised

# Cells that differ in one of these were measured on something else: never paired.
SETTING = ("scenario", "scenario_version", "fingerprint", "image_size", "size", "metric_version")


@dataclass(frozen=True)
class Pairing:
    """Final scores of two systems in one setting; runs and classes aligned."""

    setting: dict
    names: tuple[str, str]
    runs: list[tuple[str, int]]  # (order, seed)
    classes: list[str]  # sorted by name, because orders differ
    scores: np.ndarray  # (2, runs, classes)
    weights: tuple[str, str]

    @property
    def differences(self) -> np.ndarray:
        """First minus second, (runs, classes)."""
        return self.scores[0] - self.scores[1]

    @property
    def orders(self) -> list[str]:
        """The class order of each run."""
        return [order for order, _ in self.runs]

    def crossed(self) -> CrossedMean:
        """Mean difference, classes and runs both random: what a claim rests on."""
        return crossed_mean(self.differences, self.orders)

    def over_classes(self) -> SignedRank:
        """Signed-rank test over classes, each the mean of its runs: no class counts twice, and nothing is normal."""
        return signed_rank(self.differences.mean(axis=0))


def system_name(spec: dict) -> str:
    """`method+detector[,options]`, as the folders of results are named."""
    return ",".join([f"{spec['method']}+{spec['detector']}", *_options(spec)])


def _options(spec: dict) -> list[str]:
    author = [f"external={spec['external']['author']}"] if "external" in spec else []
    return [option for option in spec["variant"].split(",") if option] + author


def pair(first: str, second: str, cells: Iterable[Cell], metric: str = "image_auroc", scenario: str = ""):
    """A `Pairing` per setting in which both systems have complete runs of the same (order, seed).

    Raises BadInput where a name fits nothing or several things, or where the two share no run.
    """
    if metric not in summarised():
        raise BadInput(f"no metric {metric!r}: choose one of {', '.join(summarised())}")
    whole = (cell for cell in cells if cell["status"] == "ok" and not runs_for_debugging(cell["spec"]))
    cells = [cell for cell in whole if scenario in ("", cell["spec"]["scenario"])]
    both = [_named(name, cells, scenario) for name in (first, second)]
    tables = [_by_run(chosen) for chosen in both]
    shared = [key for key in tables[0] if key in tables[1]]
    if not shared:
        raise BadInput(
            f"{first} and {second} share no finished run: "
            "run both with the same --scenario, --seeds, --order and --size"
        )
    settings = dict.fromkeys(key[0] for key in shared)
    return [_pairing(setting, [key for key in shared if key[0] == setting], tables, metric) for setting in settings]


def _named(name: str, cells: Sequence[Cell], scenario: str) -> list[Cell]:
    """The cells of one system; options may be left out where only one set of them was run."""
    system, *options = name.split(",")
    same = [c for c in cells if f"{c['spec']['method']}+{c['spec']['detector']}" == system]
    found = [cell for cell in same if set(options) <= set(map(_path_safe, _options(cell["spec"])))]
    exact = [cell for cell in found if _path_safe(system_name(cell["spec"])) == name]
    variants = sorted({system_name(cell["spec"]) for cell in found})
    if exact or len(variants) == 1:
        return exact or found
    where = f" on {scenario}" if scenario else ""
    if variants:
        raise BadInput(f"{name!r} fits several systems{where}: name one of {'; '.join(variants)}")
    known = sorted({_path_safe(system_name(cell["spec"])) for cell in same or cells})
    near = "; ".join(get_close_matches(name, known, 3, 0.3) or known[:3]) or "nothing"
    raise BadInput(
        f"no finished result of {name!r}{where} (method+detector[,options]); nearest: {near}. "
        "`bench report` shows all there are"
    )


def _path_safe(text: str) -> str:
    """As in the names of result folders, so that these can be pasted."""
    return re.sub(r"[^\w.,=+-]", "-", text)


def _by_run(cells: Iterable[Cell]) -> dict[tuple, Cell]:
    """(setting, order, seed) -> cell."""
    return {(*_setting(cell), cell["spec"]["order"], cell["spec"]["seed"]): cell for cell in cells}


def _setting(cell: Cell) -> tuple[tuple]:
    return (tuple(cell["spec"][name] for name in SETTING),)


def _pairing(setting: tuple, keys: list[tuple], tables: Sequence[dict], metric: str) -> Pairing:
    keys = sorted(keys, key=lambda key: key[1:])
    cells = [[table[key] for key in keys] for table in tables]
    classes = sorted(classes_of(cells[0][0], metric))
    scores = [[final_scores(cell, metric, classes) for cell in side] for side in cells]
    names = tuple(system_name(side[0]["spec"]) for side in cells)
    weights = tuple(" ".join(filter(None, _start(side[0]))) for side in cells)
    runs = [key[1:] for key in keys]
    return Pairing(dict(zip(SETTING, setting, strict=True)), names, runs, classes, np.array(scores), weights)


def _start(cell: Cell) -> tuple[str, str]:
    return cell["spec"]["weights"]["kind"], cell["spec"]["backbone"] or ""
