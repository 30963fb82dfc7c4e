"""A method from outside: the example of docs/add-a-method.md as a file, and as an installed package. No other edit."""

import csv
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from command import tables
from trees import MANIFEST

from bench import registry

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def example() -> str:
    return re.search(
        r"```python\n(\"\"\"Thumbnails.*?)```", (ROOT / "docs" / "add-a-method.md").read_text(), re.DOTALL
    )[1]


def bench_in(folder: Path, *arguments: str, path: Path | None = None) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, filter(None, (ROOT, path))))}
    command = [sys.executable, "-m", "bench", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


RUN = ("--detectors", "autoencoder", "--scenario", "line.yaml", "--set", "autoencoder.epochs=1")


def test_a_file_outside_the_repository(tmp_path, example):
    (tmp_path / "thumbnails.py").write_text(example)
    (tmp_path / "line.yaml").write_text(MANIFEST)
    listed = bench_in(tmp_path, "list", "methods", "--plugin", "thumbnails.py")
    assert re.search(r"^  thumbnails +Thumbnails: replay", listed, re.MULTILINE)
    bench_in(tmp_path, "run", "--methods", "thumbnails", "--plugin", "thumbnails.py", *RUN)
    assert "| thumbnails" in tables(tmp_path)


def test_a_helper_beside_a_file_is_read_behind_the_wall(bench, tmp_path, example):
    (tmp_path / "beside_thumbnails.py").write_text('"""A helper."""\n')
    (tmp_path / "thumbnails.py").write_text(f"{example}\nimport beside_thumbnails\n")
    code, out = bench("run", "--methods", "thumbnails", "--plugin", "thumbnails.py", "--detectors", "autoencoder",
                           "--scenario", "mini.yaml", "--set", "autoencoder.epochs=1")  # fmt: skip
    assert code == 0 and "1 cells ran" in out, out


LEAVES = '''
"""Leaves."""
import sys

from bench.api import Plugin, Strategy
from methods.finetune import Config


def build(config, setup) -> Strategy:
    return setup.strategy([Leaves()])


class Leaves(Plugin):
    def before_training_exp(self, strategy, **_):
        sys.exit()
'''


def test_a_method_that_leaves_has_not_run(bench, tmp_path):
    (tmp_path / "leaves.py").write_text(LEAVES)
    code, out = bench("run", "--methods", "leaves", "--plugin", "leaves.py", "--detectors", "autoencoder",
                      "--scenario", "mini.yaml", "--set", "autoencoder.epochs=1")  # fmt: skip
    assert code == 1 and "0 cells ran, 1 failed" in out, out
    assert "SystemExit" in tables(tmp_path)


def test_what_settings_were_tuned_on_is_recorded_and_shown_where_they_are_used(tmp_path, example, request):
    bench_here = request.getfixturevalue("bench")  # the fixture of the command line, in this process
    options = {"": "the test set of lines", "factor": "the test set of planes"}
    (tmp_path / "thumbnails.py").write_text(f"{example}\nTUNED_ON = {options}\n")
    listed = " ".join(bench_here("list", "methods", "--plugin", "thumbnails.py")[1].split())
    assert "; defaults tuned on: the test set of lines; factor tuned on: the test set of planes" in " ".join(
        listed.split()
    )
    bench_here("run", "--methods", "thumbnails,finetune", "--plugin", "thumbnails.py", "--detectors", "autoencoder",
               "--scenario", "mini.yaml", "--set", "autoencoder.epochs=1")  # fmt: skip
    told = "thumbnails.factor: the test set of planes"
    assert f"\ntuned on: {told}\n" in bench_here("show", "*/thumbnails+*")[1]
    assert "tuned on" not in bench_here("show", "*/finetune+*")[1]
    lines = csv.DictReader((tmp_path / "results" / "leaderboard.csv").open())
    assert {line["method"]: line["tuned_on"] for line in lines} == {"thumbnails": told, "finetune": ""}
    entry = registry.find_entry("method", "thumbnails", [tmp_path / "thumbnails.py"])
    assert entry.tuned_on({"factor": 0}, "paper") == ["thumbnails: the test set of lines"]


@pytest.mark.parametrize("kind", ["method", "detector"])
def test_what_is_declared_as_tuned_is_an_option(kind):
    for entry in registry.found_entries(kind).values():
        declared = entry.declared["TUNED_ON"]
        assert set(declared) - {""} <= {field.name for field in fields(entry.load().Config)}, entry.name
        assert all(isinstance(text, str) and text for text in declared.values())


def test_an_entry_point_of_an_installed_package(tmp_path, example):
    site = tmp_path / "site"
    info = site / "their_methods-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "their_thumbnails.py").write_text(example)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-methods\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bench.methods]\ntheirs = their_thumbnails\n")
    (tmp_path / "line.yaml").write_text(MANIFEST)
    assert "theirs " in bench_in(tmp_path, "list", "methods", path=site)
    bench_in(tmp_path, "run", "--methods", "theirs", *RUN, path=site)
    assert "| theirs" in tables(tmp_path)


def test_two_files_of_one_name_are_refused(tmp_path, example):
    (tmp_path / "replay.py").write_text(example)
    with pytest.raises(registry.BadInput, match="two methods are called 'replay'"):
        registry.found_entries("method", [tmp_path / "replay.py"])


def test_a_file_that_cannot_be_imported_is_named(tmp_path, example):
    (tmp_path / "odd.py").write_text(example + "\nimport nowhere\n")
    entry = registry.find_entry("method", "odd", [tmp_path / "odd.py"])
    with pytest.raises(registry.BadInput, match=r"odd\.py.*No module named 'nowhere'"):
        entry.load()
