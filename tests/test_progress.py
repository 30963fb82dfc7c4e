"""What a run shows while it runs and at its end: cheap cells first, rows as they come, the time that is left."""

import argparse
import io
import re

import pytest
from cells import cell
from command import MINI, ROOT
from rich.console import Console

from bench import cli, results
from bench.analysis import estimate
from bench.render import outcome
from bench.render.progress import Watch, duration


class Planned:
    """As much of a planned cell as is looked at."""

    def __init__(self, method):
        self.record = cell(method=method)
        self.spec, self.name = self.record["spec"], method
        self.stream = type("Stream", (), {"steps": self.spec["steps"]})

    def evaluated_after(self, step):
        return True


def text_of(table) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    return console.file.getvalue()


def measured(root, *lines):
    head = "scenario,size,method,detector,status,elapsed_s"
    root.mkdir()
    (root / estimate.TABLE).write_text("\n".join([head, *lines]) + "\n")


def test_expected_seconds_come_from_the_nearest_kin(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "OWN", tmp_path / "results" / estimate.TABLE)
    measured(
        tmp_path / "results",
        "toy/1x3,tiny,replay,patchcore,ok,12",
        "toy/1x3,tiny,replay,patchcore,ok,16",
        "other/1x2,paper,replay,patchcore,ok,500",
        "toy/1x3,tiny,ewc,vae,ok,1",
        "toy/1x3,tiny,ewc,vae,failed,",
    )
    specs = [cell(method=method)["spec"] for method in ("replay", "ewc", "finetune")]
    assert estimate.expected_seconds(specs, tmp_path / "none") == [14, 1, 14]  # the last: the median of all
    assert estimate.expected_seconds([specs[0] | {"scenario": "new/1x9"}], tmp_path / "results") == [14]
    monkeypatch.setattr(estimate, "OWN", tmp_path / "none")
    assert estimate.expected_seconds(specs, tmp_path / "none") == [1, 1, 1]


def test_time_left_weighs_cells_by_what_they_cost(tmp_path, monkeypatch):
    clock = iter([0.0, *[30.0] * 9])
    monkeypatch.setattr("bench.render.progress.time.perf_counter", lambda: next(clock))
    console = Console(file=io.StringIO(), width=80)
    cheap, dear = Planned("cheap"), Planned("dear")
    results.write_cell(tmp_path, cheap.record)
    with Watch({"cheap": 10, "dear": 90}, tmp_path, console=console) as watch:
        watch(cheap, {"start": 0, "steps": 3})
        watch(cheap, {"done": "ok", "seconds": 30.0})
        assert watch.left() == "about 4 min left"
        watch(dear, {"start": 1, "steps": 3})  # its first step was done by an earlier run
        assert watch.left() == "about 3 min left"
        watch(dear, {"done": "failed", "reason": "Oops"})
        assert watch.left() == ""
    lines = console.file.getvalue().splitlines()
    assert lines[0].endswith(
        "cheap: done in 30 s; image AUROC 0.900, forgetting 0.000, pixel AUPRO 0.900, carried MB 3.00; about 4 min left"
    )


def test_the_table_has_what_was_finished_before_and_outlives_an_interrupt(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    new = Planned("cheap")
    results.write_cell(tmp_path, new.record)
    with pytest.raises(KeyboardInterrupt), Watch({"cheap": 1.0}, tmp_path, [cell(method="before")], console) as watch:
        assert "before" in text_of(watch.tables[0])
        watch(new, {"start": 0, "steps": 3})
        watch(new, {"done": "ok", "seconds": 3.0})
        console.file.truncate(0)
        raise KeyboardInterrupt
    assert re.search("before.*0.900", console.file.getvalue()) and re.search("cheap.*0.900", console.file.getvalue())


@pytest.mark.parametrize("seconds,said", [(4.04, "4.0 s"), (59, "59 s"), (700, "12 min"), (12000, "3 h 20 min")])
def test_durations_are_said_as_people_do(seconds, said):
    assert duration(seconds) == said


def test_the_table_of_a_run_fits_80_columns_and_ranks_its_rows():
    names = ("replay", "a_method_of_quite_some_length", "joint")
    cells = [cell(0.5 + 0.1 * i, method=name, seed=s) for i, name in enumerate(names) for s in (0, 1)]
    cells[-1]["capabilities"] = cells[-2]["capabilities"] = ["reads_ahead"]
    cells += [cell(method="ewc", detector="reverse_distillation", status="failed", reason="Oops " * 50)]
    (table,) = outcome.tables(cells)
    text = text_of(table)
    assert max(map(len, text.splitlines())) <= 80
    shown = [line.split()[0] for line in text.splitlines() if re.search(r"\d\.\d|failed", line)]
    assert shown[0] == "joint†" and shown[-1] == "ewc" and "† reads ahead" in text


def test_a_run_ends_with_its_table(bench, tmp_path):
    code, out = bench(*MINI)
    assert code == 0 and re.search(r"finetune +autoencoder +0\.\d{3} +0\.\d{3} +0\.\d{3} +0\b", out), out
    again = bench(*MINI)[1]
    assert out.splitlines()[-8:] == again.splitlines()[-8:], "also of what was finished before"


def parsers(parser):
    """It and those of its subcommands."""
    yield parser
    for action in parser._actions:
        for inner in action.choices.values() if isinstance(action, argparse._SubParsersAction) else ():
            yield from parsers(inner)


def test_no_help_is_wider_than_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    texts = [one.format_help() for one in parsers(cli.parser())]
    assert len(texts) > 20 and max(len(line) for text in texts for line in text.splitlines()) <= 80


@pytest.fixture
def wide(tmp_path, monkeypatch):
    """A results folder whose one cell has fifteen classes."""
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"a_class_of_some_length_{i}" for i in range(15)]
    many = cell(classes=names, steps=[[name] for name in names])
    results.write_cell(tmp_path, many)
    return tmp_path


LISTINGS = ("list", "show", "show *", "published", "published --classes --method ucad", "published --lint")
LISTINGS += ("compare cl_patchcore+patchcore replay+patchcore", "compare --cd finetune replay agem")


@pytest.mark.parametrize("command", LISTINGS)
def test_no_listing_is_wider_than_80_columns(command, wide, capsys):
    where = {"show": ["--results", str(wide)], "compare": ["--results", str(ROOT / "results")]}
    assert cli.main([*command.split(), *where.get(command.split()[0], ())]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") > 5
    assert max(map(len, shown.splitlines())) <= 80


def test_the_best_rows_of_all_tables_fit_a_screen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "30")
    assert cli.main(["show", "--results", str(ROOT / "results")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 20 < len(lines) <= 30
    named = re.search("bench show '(.*)'", lines[-1])[1]
    assert cli.main(["show", named, "--results", str(ROOT / "results")]) == 0
    assert "image_auroc" in capsys.readouterr().out


def test_no_colour_where_none_is_wanted(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with Watch({"cheap": 1.0}, None, console=console) as watch:
        watch(Planned("cheap"), {"start": 0, "steps": 3})
    assert not re.search(r"\x1b\[(3|9)\d", console.file.getvalue())
