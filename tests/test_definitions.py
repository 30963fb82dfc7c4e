"""docs/definitions.md is worked through: its matrix, its arithmetic and its values are recomputed from the page."""

import re
from pathlib import Path

import numpy as np
import pytest
from cells import cell

from bench import results
from bench.measures import definitions
from bench.show import show

PAGE = (Path(__file__).parents[1] / "docs" / "definitions.md").read_text(encoding="utf-8")
ARITHMETIC = re.compile(r"(max|[\d.,+*/() -])+")


def table(head):
    """The rows of the page's table whose first column is called `head`, as lists of text."""
    lines = PAGE[PAGE.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [[part.strip() for part in line.strip("|").split(" | ")] for line in lines]


def numbers(head):
    return {name: [float(number) for number in row] for name, *row in table(head)}


R = np.array(list(numbers("R").values()))
OTHER = numbers("other run")
ROWS = {row[0].strip("` "): row[1:] for row in table("id")}


def test_the_page_has_every_definition_with_its_formula_and_source():
    assert R.shape == (3, 3) and list(ROWS) == list(definitions.ALL)
    for name, definition in definitions.ALL.items():
        assert ROWS[name][0] == definition.formula and ROWS[name][3] == definition.source


@pytest.mark.parametrize("name", definitions.ALL)
def test_the_worked_value_is_what_the_function_gives(name):
    definition, (_, worked, value, _) = definitions.ALL[name], ROWS[name]
    given = (OTHER[name], R[-1]) if name in OTHER else (R, (0, 1, 2))
    result = definition.function(*given)
    arithmetic = worked.strip("`")
    assert ARITHMETIC.fullmatch(arithmetic)
    assert result == pytest.approx(eval(arithmetic), abs=1e-12)
    assert f"{result:.4f}" == value


def test_show_prints_every_definition_and_what_is_missing(tmp_path):
    path = results.write(tmp_path, cell(0.5, 0.9))
    lines = {line.split()[0]: line for line in show(str(path), tmp_path).splitlines() if line.strip()}
    for name, definition in definitions.ALL.items():
        assert definition.formula in lines[name] and definition.source in lines[name]
    assert lines["forgetting"].split()[1] == "0.400"
    assert lines["forgetting_with_current"].split()[1] == "—" and f"needs {definitions.EARLY}" in lines["fwt"]
    assert f"needs {definitions.TWO_RUNS}" in lines["joint_minus_replay"]
