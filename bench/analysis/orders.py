"""Systems over several class orders: what another order would have changed."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from bench.analysis.groups import SECTION, Section
from bench.analysis.identity import configuration
from bench.analysis.rows import Row
from bench.analysis.summary import Stat, interval_of, stat
from bench.metrics.statistics import Interval


class AcrossOrders(NamedTuple):
    """One configuration in all the orders that it was run in."""

    scenario: str
    system: str
    by_order: dict[str, float]  # final image AUROC in each order, mean of its seeds
    runs: int
    auroc: Stat  # of the same, over orders
    interval: Interval  # of the same, over orders, seeds and classes
    lost: Stat  # forgetting of the image AUROC over orders


def across_orders(sections: Iterable[Section]) -> list[AcrossOrders]:
    """Every configuration with complete cells in at least two orders, by scenario, best first."""
    groups = defaultdict(list)
    for section in sections:
        for row in section.rows:
            if not row.status:
                groups[_whatever_order(row)].append(row)
    found = []
    for rows in groups.values():
        if len(rows) > 1:
            spec, cells = rows[0].spec, [cell for row in rows for cell in row.cells]
            by_order = {row.spec["order"]: row.stat("final_image_auroc").mean for row in rows}
            lost = stat(row.stat("forgetting_image_auroc").mean for row in rows)
            name, scenario = f"{rows[0].label} + {spec['detector']}", f"{spec['scenario']}@{spec['scenario_version']}"
            interval = interval_of(cells, "image_auroc")
            found.append(AcrossOrders(scenario, name, by_order, len(cells), stat(by_order.values()), interval, lost))
    return sorted(found, key=lambda line: (line.scenario, -line.auroc.mean, line.system))


def over_orders(sections: Iterable[Section]) -> list[list[Row]]:
    """The rows that may be compared, table by table, each with the runs of all class orders."""
    tables: dict[tuple, dict[tuple, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for section in sections:
        apart = tuple(section.spec[name] for name in SECTION if name != "order")
        for block, rows in section.blocks.items():
            for row in rows:
                tables[apart, block][_whatever_order(row), row.status].append(row)
    return [[_pooled(rows) for rows in found.values()] for found in tables.values()]


def _whatever_order(row: Row) -> str:
    return configuration({**row.spec, "order": "", "classes": sorted(row.spec["classes"]), "steps": []})


def _pooled(rows: list[Row]) -> Row:
    cells, joint = ([each for row in rows for each in getattr(row, name)] for name in ("cells", "joint"))
    return replace(rows[0], cells=tuple(cells), joint=tuple(joint), unfinished=sum(row.unfinished for row in rows))
