"""Published numbers: complete provenance, known inconsistencies listed, new ones caught."""

import csv
import re
from pathlib import Path

import pytest

from bench.errors import BadInput
from bench.metrics.definitions import DEFINITIONS, DEFINITIONS_OF_TWO_RUNS
from bench.published import (
    FOLDER,
    FORGETTING,
    PRINTED_AS,
    Published,
    contradictions,
    lint,
    load_published,
    published_table,
    select,
)


@pytest.fixture(scope="module")
def rows():
    return load_published()


def printed(**given):
    row = Published(
        "Some paper",
        "primary",
        "1x3",
        "toy/1x3",
        "toy",
        "macro over classes",
        "pixel_ap",
        "X",
        0.6,
        0.1,
        "forgetting",
        "224",
        "",
    )
    return row._replace(**given)


def with_classes(*values, **given):
    row = printed(**given)
    return [row, *(row._replace(scope=f"class {i}", value=v, fm=None, fm_def="") for i, v in enumerate(values))]


def test_the_numbers_are_all_there(rows):
    assert len(rows) == 565 + 681 + 87
    assert {row.fm_def for row in rows} <= {"", *FORGETTING}
    values = {
        (row.method, row.metric): (row.value, row.fm)
        for row in rows
        if row.scenario == "mvtec/1x15" and not row.of_class
    }
    assert values["CADIC", "image_auroc"] == (0.972, 0.011)
    assert values["ReplayCAD", "pixel_ap"] == (0.537, 0.055)


def test_definitions_of_forgetting_are_those_of_the_matrix():
    assert FORGETTING.keys() - {"unstated"} <= DEFINITIONS.keys() | DEFINITIONS_OF_TWO_RUNS.keys()


def test_every_name_that_we_map_to_is_printed_somewhere(rows):
    there = {row.method for row in rows}
    assert {name for names in PRINTED_AS.values() for name in names} <= there


def test_the_known_inconsistencies_are_found_and_pass(rows):
    text, code = lint.lint_report(rows)
    assert code == 0 and "all known" in text
    assert {finding[:4] for finding in lint.findings(rows)} == lint.KNOWN.keys()
    assert "prints 0.511, its classes average 0.499" in text and "a mean peak of 0.231" in text


def test_a_new_inconsistency_fails(rows):
    index = next(i for i, row in enumerate(rows) if row[7:9] == ("CADIC", 0.972) and not row.of_class)
    wrong = [*rows[:index], rows[index]._replace(value=0.979), *rows[index + 1 :]]
    text, code = lint.lint_report(wrong)
    assert code == 1 and "NEW: average, mvtec, image_auroc, CADIC: prints 0.979, its classes average 0.972" in text


def test_a_known_inconsistency_that_is_gone_fails(rows):
    text, code = lint.lint_report([row for row in rows if row.method != "DFM"])
    assert code == 1 and "DFM: listed as known, but no longer there" in text


@pytest.mark.parametrize(
    ("rows", "check"),
    [
        ([printed(source="")], "provenance"),
        ([printed(trust="")], "provenance"),
        ([printed(trust="hearsay")], "provenance"),
        ([printed(protocol="")], "provenance"),
        ([printed(fm_def="")], "provenance"),
        ([printed(fm=None)], "provenance"),
        ([printed(value=60.0, fm=None, fm_def="")], "range"),
        ([printed(value=0.95, fm=0.1)], "peak"),
        (with_classes(0.4, 0.4, 0.9, value=0.567), None),
        (with_classes(0.4, 0.4, 0.9, value=0.569), "average"),
        (with_classes(0.2, 0.2, 0.9, value=0.433, fm=0.25), None),
        (with_classes(0.2, 0.2, 0.9, value=0.433, fm=0.24), "peak"),
        (with_classes(0.2, 0.2, 0.9, value=0.433, fm=0.1, fm_def="bank_size_difference"), None),
        (with_classes(0.9, 0.9, 0.1, value=0.633, fm=0.2), "peak"),
    ],
)
def test_lint_finds(rows, check):
    assert [finding.check for finding in lint.findings(rows)] == ([check] if check else [])


def test_sources_that_contradict_each_other_are_named(rows):
    clashes = {group[0].method: sorted(row.value for row in group) for group in contradictions(rows)}
    assert clashes["UCAD"] == [0.798, 0.930] and clashes["IUF"] == [0.508, 0.762]


def test_table_filters_and_explains():
    text = published_table(method="ucad", metric="image_auroc")
    lines = [line for line in text.splitlines() if line.startswith("  UCAD ")]
    assert len(lines) == 4 and all("image_auroc" in line for line in lines)
    head = r"^mvtec/1x15 · CADIC .* \(copied, 224 px\)$"
    assert re.search(rf"{head}\n  UCAD +image_auroc +0.930 +FM 0.010 bank_size_difference", text, re.MULTILINE)
    assert "bank_size_difference: gap between two runs" in text and "0.798 (DINOSaur" in text
    assert "(bottle)" in published_table(method="ucad", dataset="mvtec", classes=True)
    assert "ADer" not in published_table() and "ADer" in published_table(dataset="visa")


def test_an_unknown_method_is_refused_with_those_there_are():
    with pytest.raises(BadInput, match=r"no published number for method 'nosuch'.*ReplayCAD"):
        published_table(method="nosuch")


def test_select_combines_filters(rows):
    chosen = select(rows, "patchcore", "visa", "pixel_ap")
    assert {(row.dataset, row.metric) for row in chosen} == {("visa", "pixel_ap")}
    assert {row.method for row in chosen} == {"Joint PatchCore", "Joint PatchCore(R)", "FT PatchCore"}


def test_a_malformed_row_is_named(tmp_path):
    with open(FOLDER / "ddad_readme.csv", newline="") as file:
        head, row, *_ = csv.reader(file)
    row[head.index("value")] = "n/a"
    path = Path(tmp_path, "x.csv")
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([head, row])
    with pytest.raises(BadInput, match=r"x\.csv line 2 is not a published number.*'n/a'"):
        load_published(tmp_path)
    with pytest.raises(BadInput, match="no published numbers in"):
        load_published(tmp_path / "absent")
