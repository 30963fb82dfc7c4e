"""The table of pitfalls names what is there: tests by file and name, columns of the leaderboard."""

import ast
import csv
import io
import re

import pytest
from cells import cell
from command import ROOT

from bench import results
from bench.render import leaderboard

pytestmark = pytest.mark.slow

ROWS = [line.split(" | ") for line in (ROOT / "docs" / "pitfalls.md").read_text().splitlines() if line.startswith("| ")]
TESTS = sorted({name for row in ROWS for name in re.findall(r"`(test_\w+\.py::[^`]+)`", row[-1])})
COLUMNS = sorted({name for row in ROWS for name in re.findall(r"`(\w+)`", row[-1].partition("column")[2])})


def test_every_pitfall_has_a_row_with_a_test_or_a_column():
    assert [row[0].strip("| ") for row in ROWS] == ["#", *map(str, range(1, 24))]
    assert all("`" in row[-1] and len(row) == 4 for row in ROWS[1:])
    assert len(TESTS) > 30 and len(COLUMNS) > 12


@pytest.mark.parametrize("name", TESTS)
def test_a_test_that_is_named_exists(name):
    file, function, parameter = re.fullmatch(r"(\w+\.py)::(\w+)(?:\[(.+)\])?", name).groups()
    text = (ROOT / "tests" / file).read_text()
    assert function in {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert parameter is None or f'"{parameter}": (' in text


def test_a_column_that_is_named_exists(tmp_path):
    results.write_cell(tmp_path, cell())
    head = next(csv.reader(io.StringIO(leaderboard.render(tmp_path)[tmp_path / "leaderboard.csv"])))
    assert set(COLUMNS) <= set(head), set(COLUMNS) - set(head)
