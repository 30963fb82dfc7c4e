"""What a run will be, before it starts: its protocol, its cells, and what they will cost."""

from collections.abc import Mapping, Sequence

from bench.analysis.estimate import Estimate
from bench.render.leaderboard.tables import amount
from bench.render.verdicts import printed
from bench.schema.protocol import Protocol
from bench.schema.request import Cell


def heading(protocol: Protocol) -> str:
    """What the protocol is; of a paper, also what differs from it, and what papers print of these systems."""
    lines = [f"protocol {protocol.name}@{protocol.version}: {protocol.about}"]
    if protocol.paper:
        lines += [f"paper: {protocol.paper}", "differs from the paper:", *(f"  - {text}" for text in protocol.differs)]
        lines += ["printed:", *(f"  {line}" for line in printed(protocol))]
    return "\n".join(lines)


def other_weights(cells: Sequence[Cell], protocol: Protocol) -> str:
    """A sentence where the user's weights are not those of the protocol's rows; "" where they are, or nobody knows."""
    given = {cell.backbone.weights.sha256 for cell in cells if cell.backbone} - {"", protocol.weights_sha256}
    if not (protocol.weights_sha256 and given):
        return ""
    return (
        f"these weights (sha256 {min(given)[:16]}) are not those of protocol {protocol.name} "
        f"({protocol.weights_sha256[:16]}): the rows stand in a table of their own"
    )


def plan_text(cells: Sequence[Cell], fates: Sequence[str], machine: str, costs: Mapping[str, Estimate | None]) -> str:
    """A line per cell; those in `costs` run on a machine of that kind, with the sum of what is known of them."""
    unit = "GPU" if cells and cells[0].request.device != "cpu" else "processor"
    lines = [
        f"{cell.name}: {fate}" + (f"; {_cost(costs[cell.name], unit, machine)}" if cell.name in costs else "")
        for cell, fate in zip(cells, fates, strict=True)
    ]
    lines.append(f"{len(costs)} of {len(cells)} cells would run.")
    if known := [cost for cost in costs.values() if cost]:
        hours, disk = sum(cost.hours for cost in known), sum(cost.disk_mb for cost in known)
        memory = max(cost.memory_gb for cost in known)
        lines.append(
            f"{len(known)} of known cost: {amount(hours)} {unit} hours, at most {amount(memory)} GB of memory each, "
            f"{amount(disk)} MB of disk; {len(costs) - len(known)} of unknown cost."
        )
    if any(not cell.spec["fingerprint"] for cell in cells):
        lines.append("Without --data: nobody looked which of them are finished, nor at their weights.")
    return "\n".join(lines)


def _cost(cost: Estimate | None, unit: str, machine: str) -> str:
    if cost is None:
        return f"cost not known on {machine or 'another machine'}"
    hours, memory, disk = map(amount, (cost.hours, cost.memory_gb, cost.disk_mb))
    return f"{hours} {unit} hours, {memory} GB, {disk} MB of disk ({cost.basis})"
