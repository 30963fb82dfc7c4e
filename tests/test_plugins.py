"""A method from outside: the README's example as a file, and as an installed package. No edit anywhere else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from trees import MANIFEST

from bench import registry

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def example() -> str:
    return re.search(r"```python\n(\"\"\"Thumbnails.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]


def bench(folder: Path, *arguments: str, path: Path | None = None) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, filter(None, (ROOT, path))))}
    command = [sys.executable, "-m", "bench", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


RUN = ("--detectors", "autoencoder", "--scenario", "line.yaml", "--set", "autoencoder.epochs=1")


def test_a_file_outside_the_repository(tmp_path, example):
    (tmp_path / "thumbnails.py").write_text(example)
    (tmp_path / "line.yaml").write_text(MANIFEST)
    listed = bench(tmp_path, "list", "methods", "--plugin", "thumbnails.py")
    assert re.search(r"^  thumbnails +Thumbnails: replay", listed, re.MULTILINE)
    bench(tmp_path, "run", "--methods", "thumbnails", "--plugin", "thumbnails.py", *RUN)
    assert "| thumbnails" in (tmp_path / "leaderboard.md").read_text()


def test_an_entry_point_of_an_installed_package(tmp_path, example):
    site = tmp_path / "site"
    info = site / "their_methods-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "their_thumbnails.py").write_text(example)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-methods\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bench.methods]\ntheirs = their_thumbnails\n")
    (tmp_path / "line.yaml").write_text(MANIFEST)
    assert "theirs " in bench(tmp_path, "list", "methods", path=site)
    bench(tmp_path, "run", "--methods", "theirs", *RUN, path=site)
    assert "| theirs" in (tmp_path / "leaderboard.md").read_text()


def test_two_files_of_one_name_are_refused(tmp_path, example):
    (tmp_path / "replay.py").write_text(example)
    with pytest.raises(registry.BadInput, match="two methods are called 'replay'"):
        registry.found("method", [tmp_path / "replay.py"])


def test_a_file_that_cannot_be_imported_is_named(tmp_path, example):
    (tmp_path / "odd.py").write_text(example + "\nimport nowhere\n")
    entry = registry.find("method", "odd", [tmp_path / "odd.py"])
    with pytest.raises(registry.BadInput, match=r"odd\.py.*No module named 'nowhere'"):
        entry.load()
