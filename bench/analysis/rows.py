"""A row of a table: one configuration, its cells by seed, and what they say together."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from bench.analysis import drift_left
from bench.analysis import gap_to_joint as distance
from bench.analysis.figures import figures
from bench.analysis.summary import Stat, interval_of, stat
from bench.metrics.statistics import Interval
from bench.results.age import differing_versions, older_code
from bench.schema.cell import Spec
from bench.schema.record import Record

LONGEST = 40  # characters of a label in a table


@dataclass(frozen=True)
class Row:
    """One configuration: its complete cells (one per seed) as numbers, or its unfinished ones as a status."""

    label: str  # method, options, marks
    cells: tuple[Record, ...]  # by seed
    status: str = ""  # "" for complete cells, which alone have numbers
    unfinished: int = 0  # seeds of the same configuration that failed or did not end
    joint: tuple[Record, ...] = ()  # joint training on the same detector, to measure the distance to
    finetuned: tuple[Record, ...] = ()  # fine-tuning of the same detector, to measure the drift by

    @property
    def spec(self) -> Spec:
        """Of the first seed; the others differ in the seed only."""
        return self.cells[0]["spec"]

    @property
    def short(self) -> str:
        """The label where it is short enough for a table, else method and the start of the first run's key."""
        if len(self.label) <= LONGEST:
            return self.label
        return f"{self.spec['method'][: LONGEST - 8]} (…{self.cells[0]['key'][:4]})"

    @cached_property
    def figures(self) -> list[dict[str, float]]:
        """Those of `summary`, `gap_to_joint` and `drift_left` for each cell; empty where none is complete."""
        cells = [] if self.status else self.cells
        return [
            figures(cell) | distance.gap_figures(cell, self.joint) | drift_left.drift_left_figures(cell, self.finetuned)
            for cell in cells
        ]

    def stat(self, name: str) -> Stat:
        """Of one of the figures over the seeds; missing for unfinished cells."""
        return stat(found[name] for found in self.figures)

    def interval(self, metric: str = "image_auroc") -> Interval:
        """The final average with its bootstrap interval over seeds and classes; missing for unfinished cells."""
        return interval_of([] if self.status else self.cells, metric)

    def on(self, device: str) -> "Row":
        """The same row, from the cells that ran on one device only."""
        cells = tuple(cell for cell in self.cells if cell["environment"].get("device", "") == device)
        return self if len(cells) == len(self.cells) else replace(self, cells=cells)

    @property
    def devices(self) -> list[str]:
        """Where the cells ran, sorted."""
        return sorted({cell["environment"].get("device", "") for cell in self.cells})

    @property
    def tuned_on(self) -> list[str]:
        """On what settings in use were tuned, where that is known."""
        return tuned_on(self.cells)

    @property
    def external(self) -> bool:
        """Whether somebody else's system gave the scores."""
        return "external" in self.spec

    @cached_property
    def older(self) -> bool:
        """Whether any of its cells was measured with older code."""
        return any(map(older_code, self.cells))

    @cached_property
    def mixed(self) -> list[str]:
        """What decides numbers and was not the same for all of its cells: libraries with their versions, code."""
        return [] if self.external else differing_versions(self.cells)

    @property
    def outside_band(self) -> bool:
        """Whether its method is set by a strength that is inert or freezes everything here."""
        return drift_left.is_outside_band(self.stat(drift_left.ID).mean, self.cells[0])

    def may(self, capability: str) -> bool:
        """Whether the method declares it."""
        return capability in self.cells[0]["capabilities"]


def tuned_on(cells: Iterable[Record]) -> list[str]:
    """What any of the cells tells of it, once each."""
    return list(dict.fromkeys(text for cell in cells for text in cell.get("tuned_on", ())))
