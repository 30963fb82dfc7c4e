"""The runs that two systems share, aligned by setting, order, seed and class."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from bench.analysis.identity import runs_for_debugging
from bench.analysis.summary import classes_of, final_scores
from bench.errors import BadInput
from bench.metrics.statistics import CrossedMean, SignedRank, crossed_mean, signed_rank
from bench.schema.metric import summarised
from bench.schema.record import Record

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


def pair(first: str, second: str, cells: Iterable[Record], metric: str = "image_auroc", scenario: str = ""):
    """A `Pairing` per setting in which both systems have complete runs of the same (order, seed).

    Raises BadInput where a name fits nothing or several things, or where the two share no run.
    """
    if metric not in summarised():
        raise BadInput(f"no metric {metric!r}: choose one of {', '.join(summarised())}")
    whole = (cell for cell in cells if cell["status"] == "ok" and not runs_for_debugging(cell["spec"]))
    cells = [cell for cell in whole if scenario in ("", cell["spec"]["scenario"])]
    both = [_named(name, cells, scenario) for name in (first, second)]
    tables: list[dict[tuple, dict[tuple[str, int], Record]]] = [defaultdict(dict), defaultdict(dict)]
    for table, chosen in zip(tables, both, strict=True):
        for cell in chosen:
            spec = cell["spec"]
            table[tuple(spec[name] for name in SETTING)][spec["order"], spec["seed"]] = cell
    pairings = []
    for setting in tables[0]:
        runs = sorted(tables[0][setting].keys() & tables[1][setting].keys())
        if runs:
            sides = [[table[setting][run] for run in runs] for table in tables]
            classes = sorted(classes_of(sides[0][0], metric))
            scores = np.array([[final_scores(cell, metric, classes) for cell in side] for side in sides])
            specs = [side[0]["spec"] for side in sides]
            weights = tuple(" ".join(filter(None, (spec["weights"]["kind"], spec["backbone"]))) for spec in specs)
            names = tuple(map(system_name, specs))
            pairings.append(Pairing(dict(zip(SETTING, setting, strict=True)), names, runs, classes, scores, weights))
    if not pairings:
        raise BadInput(
            f"{first} and {second} share no finished run: "
            "run both with the same --scenario, --seeds, --order and --size"
        )
    return pairings


def _named(name: str, cells: Sequence[Record], scenario: str) -> list[Record]:
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
