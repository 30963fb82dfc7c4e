"""What `bench advise` writes: one paragraph, one picture, and a table of what was tried."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from bench.analysis.rows import Row
from bench.analysis.summary import classes_of, final_scores, learned_at
from bench.data.sample import TEST_SHARE
from bench.metrics.statistics import crossed_mean, interval
from bench.metrics.thresholds import FALSE_ALARM_RATE
from bench.render.leaderboard.heat import Panel, drawing
from bench.render.leaderboard.tables import MISSING, amount, span
from bench.render.progress import duration
from bench.schema.cell import CLASS_FALSE_ALARM

Z = 1.959964  # of a 95 % interval


def write_advice(
    rows: Sequence[Row], table: Sequence[dict], untried: Sequence[str], size: str, out: Path
) -> tuple[str, list[Path]]:
    """Write `advice.md` and `advice.svg` of rows, the recommended one first, into `out`; returns paragraph and files.

    `table` counts the images of each class, as a check of the folder does; `untried`: systems without time.
    """
    paragraph = " ".join(_sentences(rows, table, untried, size))
    picture, page = out / "advice.svg", out / "advice.md"
    other = next((row for row in rows[1:] if row.spec["method"] == "finetune"), rows[-1])
    # R of the recommended system beside fine-tuning: image AUROC, or false alarms where there is no defect.
    measured = any(value == value for row in rows[0].cells[0]["matrices"]["image_auroc"] for value in row)
    metric, ends = ("image_auroc", (0.4, 1.0)) if measured else (CLASS_FALSE_ALARM, (0.5, 0.0))
    panels = [
        Panel(_name(row), row.spec["classes"], row.cells[0]["matrices"][metric], learned_at(row.cells[0]).tolist())
        for row in (rows[0], *([other] if other is not rows[0] else []))
        if row.cells[0]["matrices"].get(metric)
    ]
    auroc = "Image AUROC (1: every defect stands out, .5: a coin)"
    drawn = drawing(panels, auroc if measured else "Share of good images rejected", ends)
    picture.write_text(drawn, encoding="utf-8")
    lines = [
        "| system | image AUROC | forgetting | false alarms | recall | carried MB | ms/image |",
        "|---|" + "---:|" * 6,
    ]
    for row in rows:
        names = ("final_image_auroc", "forgetting_image_auroc", "false_alarm", "threshold_recall")
        scores = [_told(row.stat(name).mean, ".3f") for name in names]
        costs = [amount(row.stat("carried_mb").mean), amount(_latency(row))]
        lines.append(f"| {' | '.join([_name(row), *scores, *costs])} |")
    page.write_text(f"# Advice\n\n{paragraph}\n\n![R]({picture.name})\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return paragraph, [page, picture]


def _latency(row: Row) -> float:
    """Milliseconds per image as they were beside the other systems: more exact ones would take another run."""
    return fmean(cell["cost"]["ms_per_image"].get("1") or math.nan for cell in row.cells)


def _sentences(rows: Sequence[Row], table: Sequence[dict], untried: Sequence[str], size: str) -> Iterator[str]:
    best, cell = rows[0], rows[0].cells[0]
    auroc, lost = (best.stat(f"{name}_image_auroc").mean for name in ("final", "forgetting"))
    alarms, recall = (best.stat(name).mean for name in ("false_alarm", "threshold_recall"))
    classes, bad = len(table), sum(row["test anomalous"] for row in table)
    good = sum(row["test good"] or row["train"] // TEST_SHARE * (not row["test anomalous"]) for row in table)
    known = not math.isnan(auroc)  # there are defective images
    chosen = classes_of(cell, "image_auroc")
    if known:
        final = final_scores(cell, "image_auroc", chosen)
        yield (
            f"Take {_name(best)}, the best of {len(rows)} systems tried: when all {classes} classes have been learned, "
            f"one after the other, it scores a defective image above a good one of the same class in "
            f"{auroc:.0%} of cases (image AUROC; a coin has 50%), over the {_count(len(chosen))} defective "
            f"images (so few leave room for {span(interval([final]), '.0%')})."
        )
        worst = min(range(len(chosen)), key=final.__getitem__)
        if len(chosen) > 1:
            yield f"Its weakest class is {chosen[worst]}, with {final[worst]:.0%}."
        if not math.isnan(lost):
            yield f"Later classes have cost the earlier ones {max(lost, 0):.2f} of their image AUROC (forgetting)."
    else:
        yield (
            f"Take {_name(best)}: of {len(rows)} systems tried, it rejects nearest to the {FALSE_ALARM_RATE:.0%} of "
            f"good images that were asked for. What it misses is unknown, for there is no defective image."
        )
    values = [value for value in cell["threshold"].get("value", ()) if value is not None]
    if values and alarms == alarms:
        misses = f", and lets {_share(1 - recall, bad)} of the defective ones pass" if recall == recall else ""
        yield (
            f"Rejecting every image that scores above {values[-1]:.4g}, a threshold set on good images kept out of "
            f"training so that {FALSE_ALARM_RATE:.0%} of good ones are rejected, it rejects {_share(alarms, good)} of "
            f"the good test images{misses}; in brackets what so few images leave open."
        )
    yield (
        f"It keeps {amount(best.stat('carried_mb').mean)} MB of earlier classes and takes {amount(_latency(best))} ms "
        f"an image on this machine ({cell['environment'].get('device', 'unknown')}); learning all classes took "
        f"{duration(sum(cell['cost']['train_s']))}."
    )
    if len(rows) > 1 and known:
        finals = [final_scores(row.cells[0], "image_auroc", chosen) for row in rows[:2]]
        gap = crossed_mean([np.subtract(*finals)])
        shown = "the classes are too few to tell whether that is chance"  # of two or three the interval says nothing
        if gap.half() < 1:
            sure = "more than chance" if gap.mean > gap.half() else "which may be chance"
            shown = f"give or take {gap.half():.2f} from class to class, {sure}"
        yield f"Next comes {_name(rows[1])}, whose image AUROC is {gap.mean:.2f} lower; {shown}."
    yield "All this is one run: another seed or another order of the classes may give another result."
    if size == "tiny":
        yield "It was done with small networks; on a GPU, --size paper takes the settings and weights of the papers."
    if untried:
        yield f"Not tried, for lack of time: {', '.join(untried)}; with more --minutes the same command goes on."


def _name(row: Row) -> str:
    return f"{row.spec['method']} on {row.spec['detector']}"


def _count(classes: int) -> str:
    return "1 class that has" if classes == 1 else f"{classes} classes that have"


def _told(value: float, form: str) -> str:
    return MISSING if math.isnan(value) else f"{value:{form}}"


def _share(value: float, count: int) -> str:
    """A share of `count` images with Wilson's 95 % interval: `7 % (3 to 15 %)`."""
    if not count:
        return f"{value:.0%}"
    centre = (value + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(value * (1 - value) / count + Z**2 / (4 * count**2))
    return f"{value:.0%} ({max(centre - half, 0):.0%} to {min(centre + half, 1):.0%})"
