"""Finds published tables that contradict themselves; known cases are listed with their reason, new ones fail."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bench.published import FORGETTING, TRUST, Published

AVERAGE_TOLERANCE = 0.001  # rounding of three printed decimals
PLAUSIBLE_PEAK = 0.5  # old classes' implied peak, as a share of what the class just learned gets

# (check, data set, metric, method) -> why it stands as printed
KNOWN = {
    ("average", "mvtec", "pixel_ap", "DFM"): "printed .511 is the value of its last class; its row averages .499",
    ("peak", "mvtec", "pixel_ap", "FT CFA"): "FM .083 implies a peak of .231, the class just learned gets .573",
    (
        "peak",
        "visa",
        "pixel_ap",
        "FT CFA",
    ): "FM .184 implies a peak of .225 against .592; the last class is an easy one",
    (
        "peak",
        "visa",
        "pixel_ap",
        "FT RD4AD",
    ): "FM .201 implies a peak of .224 against .576; the last class is an easy one",
    ("peak", "visa", "pixel_ap", "FT SimpleNet"): "old classes were never learned, so FM .016 says nothing",
    ("peak", "visa", "pixel_ap", "IUF"): "old classes were never learned, so FM .003 says nothing",
}


class Finding(NamedTuple):
    """One inconsistency."""

    check: str  # provenance | range | average | peak
    dataset: str
    metric: str
    method: str
    text: str

    @property
    def reason(self) -> str:
        """Why it is let stand, "" for a new one."""
        return KNOWN.get(self[:4], "")


def findings(rows: Iterable[Published]) -> list[Finding]:
    """All inconsistencies, known and new, sorted."""
    rows = list(rows)
    classes = defaultdict(list)  # in the order of arrival, as printed
    for row in rows:
        if row.of_class:
            classes[row.source, row.protocol, row.dataset, row.metric, row.method].append(row.value)
    found = [finding for row in rows for finding in _row(row)]
    for row in (row for row in rows if not row.of_class):
        values = classes[row.source, row.protocol, row.dataset, row.metric, row.method]
        # The mean of the printed per-class values is the printed average.
        average = sum(values) / len(values) if values else row.value
        if abs(average - row.value) > AVERAGE_TOLERANCE:
            found.append(_finding("average", row, f"prints {row.value:.3f}, its classes average {average:.3f}"))
        # Mean of the old classes plus FM is their mean peak: in 0..1, and near what the class just learned gets.
        if row.fm is None or row.fm_def == "forgetting_relative_off_by_one":
            continue
        old = values[:-1] or [row.value]
        peak = sum(old) / len(old) + row.fm
        text = f"FM {row.fm:.3f} implies a mean peak of {peak:.3f}"
        if not 0 <= peak <= 1:
            found.append(_finding("peak", row, f"{text}, outside 0..1"))
        elif values and row.fm_def == "forgetting" and peak < PLAUSIBLE_PEAK * values[-1]:
            found.append(_finding("peak", row, f"{text} for old classes; the last class gets {values[-1]:.3f}"))
    return sorted(found)


def _finding(check: str, row: Published, text: str) -> Finding:
    return Finding(check, row.dataset, row.metric, row.method, text)


def _row(row: Published) -> Iterator[Finding]:
    """Provenance is complete and the numbers lie where such numbers can."""
    if not row.source:
        yield _finding("provenance", row, "no source")
    if row.trust not in TRUST:
        yield _finding("provenance", row, f"trust {row.trust!r} is none of {', '.join(TRUST)}")
    if not (row.protocol and row.scope and row.metric and row.method):
        yield _finding("provenance", row, "protocol, scope, metric or method is empty")
    if (row.fm is not None) != (row.fm_def in FORGETTING):
        yield _finding("provenance", row, f"FM {row.fm} with definition {row.fm_def!r}")
    if not 0 <= row.value <= 1 or not -1 <= (row.fm or 0) <= 1:
        yield _finding("range", row, f"value {row.value} outside 0..1 or FM {row.fm} outside -1..1: percent?")


def lint_report(rows: Iterable[Published]) -> tuple[str, int]:
    """Text for `bench published --lint` and its exit code: 1 for a new inconsistency or a listed one that is gone."""
    found = findings(rows)
    lines = [
        f"known: {', '.join(f[:4])}: {f.text} ({f.reason})" if f.reason else f"NEW: {', '.join(f[:4])}: {f.text}"
        for f in found
    ]
    gone = sorted(KNOWN.keys() - {finding[:4] for finding in found})
    lines += [f"NEW: {', '.join(key)}: listed as known, but no longer there" for key in gone]
    new = sum(line.startswith("NEW") for line in lines)
    lines.append(
        f"{len(found)} inconsistencies, {new} of them new" if new else f"{len(found)} inconsistencies, all known"
    )
    return "\n".join(lines) + "\n", int(new > 0)
