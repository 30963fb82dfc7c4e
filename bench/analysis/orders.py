"""Systems over several class orders: what another order would have changed."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from bench.analysis.groups import Section
from bench.analysis.identity import configuration
from bench.analysis.rows import Row
from bench.analysis.summary import Stat, interval_of, stat
from bench.metrics.statistics import Interval


class AcrossOrders(NamedTuple):
    """One configuration in all the orders that it was run in."""

    scenario: str
    system: str
    orders: int
    runs: int
    auroc: Stat  # final image AUROC over orders, each the mean of its seeds
    interval: Interval  # of the same, over orders, seeds and classes
    lost: Stat  # forgetting of the image AUROC over orders


def across_orders(sections: Iterable[Section]) -> list[AcrossOrders]:
    """Every configuration with complete cells in at least two orders, by scenario, best first."""
    groups = defaultdict(list)
    for section in sections:
        for row in section.rows:
            if not row.status:
                same = {**row.spec, "order": "", "classes": sorted(row.spec["classes"]), "steps": []}
                groups[configuration(same)].append(row)
    found = [_join(rows) for rows in groups.values() if len(rows) > 1]
    return sorted(found, key=lambda line: (line.scenario, -line.auroc.mean, line.system))


def _join(rows: list[Row]) -> AcrossOrders:
    spec, cells = rows[0].spec, [cell for row in rows for cell in row.cells]
    auroc, lost = (
        stat(row.stat(name).mean for row in rows) for name in ("final_image_auroc", "forgetting_image_auroc")
    )
    name = f"{rows[0].label} + {spec['detector']}"
    scenario = f"{spec['scenario']}@{spec['scenario_version']}"
    return AcrossOrders(scenario, name, len(rows), len(cells), auroc, interval_of(cells, "image_auroc"), lost)
