"""docs/definitions.md is worked through: its matrix, its arithmetic and its values are recomputed from the page."""

import re
from pathlib import Path

import numpy as np
import pytest
from cells import cell

from bench import results
from bench.metrics import definitions
from bench.render.show import show

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
    path = results.write_cell(tmp_path, cell(0.5, 0.9))
    lines = [line for line in show(str(path), tmp_path).splitlines() if line.strip()]
    numbers = {line.split()[0]: line.split()[1:] for line in lines if not line.startswith(" ")}
    told = {line.split(":")[0].strip(): line for line in lines if line.startswith("  ")}
    for name, definition in definitions.ALL.items():
        assert name in numbers and definition.formula in told[name] and definition.source in told[name]
    assert numbers["forgetting"][0] == "0.400"
    assert numbers["forgetting_with_current"][0] == "—" and f"needs {definitions.EARLY}" in told["fwt"]
    assert f"needs {definitions.TWO_RUNS}" in told["joint_minus_replay"]


def test_show_takes_the_joint_run_beside_a_run(tmp_path):
    results.write_cell(tmp_path, cell(0.75, method="joint"))
    (tmp_path / "toy/1x3/joint+patchcore,memory=9").mkdir()
    (tmp_path / "toy/1x3/joint+patchcore,memory=9/seed-0.json").write_text("{")  # cannot be read: no reference
    results.write_cell(tmp_path, cell(0.9, method="joint", detector="patchcore_large"))
    made = cell(metrics={"image_auroc": 0.5, "aupro": 0.55, "pixel_ap": 0.65})
    lines = show(str(results.write_cell(tmp_path, made)), tmp_path).splitlines()
    beside = [line.split()[:3] for line in lines if line.startswith("joint_minus_replay")]
    assert beside[0] == ["joint_minus_replay", "0.250", "0.200"]  # 0.75 - 0.50 and 0.75 - 0.55
    assert ["joint_minus_replay_pixel_ap", "0.1"] in [line[:2] for line in beside]
    assert "needs" not in next(line for line in lines if line.startswith("joint_minus_replay "))
