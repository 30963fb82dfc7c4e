"""The command line called in this process, which saves the imports, in a folder of its own."""

from pathlib import Path

import heavy
import pytest
from trees import MANIFEST

from bench import cli
from bench.backends import pool

ROOT = Path(__file__).parents[1]
BASE = ("run", "--methods", "finetune", "--detectors", "autoencoder", "--scenario", "mini.yaml")
MINI = (*BASE, "--set", "autoencoder.epochs=1")


class Wire:
    """Stands in for the pipe to a cell's process."""

    def __init__(self, cell, hear):
        self.cell, self.hear = cell, hear

    def send(self, event):
        self.hear(self.cell, event)


def run_here(context, cells, root, *, jobs, threads, loggers, on_event, environment=None):
    from bench.runner import work_on_cell

    for cell in cells:
        work_on_cell(cell, root, Wire(cell, on_event), threads, loggers)


def tables(folder: Path) -> str:
    """The leaderboard and the pages of its tables, one after the other."""
    pages = sorted((folder / "results" / "tables").glob("*.md"))
    return "\n".join(page.read_text() for page in (folder / "leaderboard.md", *pages))


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Call the command line in this process, in a folder of its own; returns (exit code, output)."""
    heavy.ready()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool, "cell_server", lambda: None)
    monkeypatch.setattr(pool, "call", lambda context, function, *arguments: function(*arguments))
    monkeypatch.setattr(pool, "run_in_processes", run_here)
    (tmp_path / "results").mkdir()
    (tmp_path / "mini.yaml").write_text(MANIFEST)

    def call(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call
