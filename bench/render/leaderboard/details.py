"""The folded parts of a section: every metric, one threshold, costs, published numbers, skipped pairs."""

import html
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path

from bench.analysis.groups import Section
from bench.analysis.labels import last_line
from bench.analysis.race import BOUNDS, BUDGETS, budget, out_of_race
from bench.analysis.rows import Row
from bench.published import TOLERANCE
from bench.render.leaderboard import tables
from bench.render.leaderboard.commands import commands
from bench.render.leaderboard.compare import Comparison
from bench.render.leaderboard.tables import MISSING, Column, compact, escape_markdown, markdown, score_text
from bench.schema.protocol import shipped_protocols


def fold(summary: str, body: str) -> str:
    """A folded block; the empty lines make a forge render the Markdown inside."""
    return f"<details><summary>{html.escape(summary, quote=False)}</summary>\n\n{body}\n\n</details>"


def details(section: Section) -> Iterator[str]:
    """Tables of all detectors together, per set of weights; "" where there is nothing to show."""
    yield _per_weights(section, "Every other metric", tables.other_metrics())
    summary = "One threshold for the whole line: pooled ranking, precision, recall, false alarms, drift, routing"
    yield _per_weights(section, summary, tables.figures_of("line"))
    for device in device_names(section.rows):
        yield _per_weights(section, f"Cost on {device}", tables.figures_of("cost"), device)


def below_lanczos(section: Section) -> str:
    """Codecs that give images back worse than the plain filter does; "" where there is none."""
    lines = []
    for row in (row for row in section.rows if not row.status):
        noted = [  # after the last step, by the cells that note it
            [cell["notes"][name][-1] for cell in row.cells if name in cell.get("notes", {})]
            for name in ("memory_psnr", "memory_psnr_lanczos")
        ]
        decoded, plain = (sum(values) / len(values) if values else math.nan for values in noted)
        if decoded < plain:
            system = f"{escape_markdown(row.short)} on {row.spec['detector']}"
            lines.append(f"- {system}: {decoded:.1f} dB, Lanczos' filter alone {plain:.1f} dB")
    head = "**Codecs that give back images worse than the filter that made them small** (PSNR after the last step):"
    return "\n".join([head, "", *lines]) if lines else ""


def device_names(rows: Iterable[Row]) -> list[str]:
    return sorted({device for row in rows if not row.status for device in row.devices if device})


def _per_weights(section: Section, summary: str, columns: Sequence[Column], device: str | None = None) -> str:
    """One folded block with a table per set of weights, rows of all detectors."""
    parts = []
    for weights, rows in section.by_weights().items():
        rows = [row for row in rows if not row.status]
        if device is not None:
            rows = [row.on(device) for row in rows if device in row.devices]
        if rows:
            named = " ".join(word for word in (weights[0], weights[1], weights[2][:8]) if word)
            parts.append(f"**weights: {named}**\n\n{tables.table(columns, rows, compact)}")
    return fold(summary, "\n\n".join(parts)) if parts else ""


def comparison_table(pairs: Sequence[Comparison]) -> str:
    if not pairs:
        return "No published number fits these rows; `python -m bench published` lists what papers print."
    head = (
        "system",
        "printed as",
        "metric",
        "measured",
        "published",
        "verdict",
        "FM there",
        "FM here",
        "FM definition",
    )
    lines = []
    for pair in pairs:
        row, printed, measured, verdict = pair
        system = f"{row.short} + {row.spec['detector']}"
        there = MISSING if printed.fm is None else f"{printed.fm:.3f}"
        line = (system, printed.method, printed.metric, score_text(measured), f"{printed.value:.3f}", verdict, there)
        line += (score_text(pair.lost), printed.fm_def or MISSING)
        lines.append((*line, printed.protocol, printed.source, printed.trust))
    text = compact((*head, "protocol", "source", "trust"), lines)
    return fold(f"Published beside measured: {tally(pairs)}", text)


def tally(pairs: Iterable[Comparison]) -> str:
    """How many verdicts of each kind; "" without any."""
    verdicts = [pair.verdict for pair in pairs]
    kinds = {f"within {TOLERANCE}": "within", "off": "off", "not comparable": "not"}
    counts = {name: sum(verdict.startswith(start) for verdict in verdicts) for name, start in kinds.items()}
    return ", ".join(f"{count} {name}" for name, count in counts.items()) if verdicts else ""


def how_to_run(section: Section) -> str:
    """The commands of all rows, and what stands for DIR and WEIGHTS in them."""
    lines, files = commands(section.rows), set()
    if not lines:
        return ""
    for row in section.rows:
        weights = row.spec["weights"]
        files |= {(row.spec["backbone"], weights["source"], weights["sha256"])} if weights["kind"] == "path" else set()
    dataset = section.spec["scenario"].partition("/")[0]
    told = ["DIR is the folder of the data set."] if any("DIR" in line for line in lines) else []
    if Path(str(resources.files("scenarios") / "recipes" / f"{dataset}.yaml")).is_file():
        told = [f"`python -m bench data get {dataset} --to DIR --accept-licence` fetches the images."]
    told += [
        f"WEIGHTS of {name}: a file named {escape_markdown(source)}, sha256 `{sha256}`."
        for name, source, sha256 in sorted(files)
    ]
    for protocol in shipped_protocols():
        if section.spec["scenario"] in protocol.scenarios and not protocol.paper:
            told.append(f"All headline rows: `python -m bench run --protocol {protocol.name} ...`.")
    body = "\n".join(["```bash", *lines, "```"])
    return fold("How to run these rows", "\n\n".join([" ".join(told), body]) if told else body)


def skipped(section: Section) -> str:
    """Pairs that make no sense, by method and reason."""
    reasons = defaultdict(set)
    for cell in section.skipped:
        reasons[cell["spec"]["method"], last_line(cell["reason"])].add(cell["spec"]["detector"])
    if not reasons:
        return ""
    lines = [(method, ", ".join(sorted(found)), reason) for (method, reason), found in sorted(reasons.items())]
    total = sum(map(len, reasons.values()))
    return fold(f"Skipped pairs and why: {total}", compact(("method", "detectors", "reason"), lines))


def memory_budgets(section: Section) -> str:
    """The highest mean within each memory budget, whatever the detector; bounds only where memory is no limit."""
    parts, allowed = [], ("", BOUNDS["unlimited_memory"])

    def auroc(row: Row) -> float:
        return row.stat("final_image_auroc").mean

    for weights, rows in section.by_weights().items():
        rows = [row for row in rows if not row.status and not row.external and auroc(row) >= 0]
        order, lines = [name for name, _ in BUDGETS], []
        for place, name in enumerate(order):
            within = [row for row in rows if order.index(budget(row)) <= place and out_of_race(row) in allowed]
            if any(budget(row) == name for row in within):
                row = max(within, key=auroc)
                figures = (f"{auroc(row):.3f}", tables.amount(row.stat("carried_mb").mean), str(len(row.cells)))
                lines.append((name, f"{row.short} + {row.spec['detector']}", *figures))
        if lines:
            head = ("memory between steps", "highest mean, not a claim", "image AUROC", "carried MB", "runs")
            parts.append(f"**weights: {' '.join(weights[:2]).strip()}**\n\n{markdown(head, lines)}")
    return fold("By memory budget", "\n\n".join(parts)) if parts else ""


def shortened_options(rows: Iterable[Row]) -> str:
    """Labels that the tables shorten, in full."""
    long = [f"- {escape_markdown(row.short)}: {escape_markdown(row.label)}" for row in rows if row.short != row.label]
    return fold("Shortened options in full", "\n".join(dict.fromkeys(long))) if long else ""
