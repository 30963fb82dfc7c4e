"""Brings a finished cell back to life as it was after one of its steps, from what `bench run --keep` left."""

from dataclasses import dataclass
from pathlib import Path

from bench import data, results
from bench.data import Arrays
from bench.errors import BadInput
from bench.runner import checkpoint
from bench.runner.again import again
from bench.schema.request import Cell
from bench.training.experiences import TestExperience
from bench.training.strategy import Strategy
from bench.wall.child import build, load_carried
from bench.wall.parent import task_of


@dataclass(frozen=True)
class Kept:
    """A cell file and what is needed to run on from it."""

    path: Path
    cell: Cell
    arrays: Arrays

    @property
    def steps(self) -> list[int]:
        """The steps (0-based) whose state lies beside the cell file."""
        return [step for step in range(len(self.cell.stream.steps)) if results.kept(self.path, step).is_file()]

    def after(self, step: int) -> Strategy:
        """Return the strategy as it was after `step`.

        Raises:
            BadInput: if nothing was kept of it, or what was kept is of another run.
        """
        path = results.kept(self.path, step)
        if not path.is_file():
            raise BadInput(
                f"nothing was kept of step {step + 1} of {self.path}: run the cell again with the same command and "
                "--keep --redo all."
            )
        saved = checkpoint.load_checkpoint(path, self.cell.resume_key)
        if saved is None:
            raise BadInput(f"{path} is broken or of another run: run the cell again with --keep --redo all.")
        strategy = load_carried(build(task_of(self.cell, step)), saved["carried"])
        strategy.model.eval()
        return strategy

    def show(self, strategy: Strategy, column: int) -> None:
        """Let a method that is told the class at test put its detector in place."""
        strategy.experience = TestExperience([], column)
        for plugin in strategy.methods:
            plugin.before_eval_exp(strategy)


def revive(path: Path, options) -> Kept:
    """Plan the cell of the file `path` again, with the options of `bench figure` for what a file does not hold.

    Raises:
        BadInput: if its data, weights or scenario are not given, or are not those that it was run with.
    """
    cell = again(path, results.read(path).spec, options)
    request = cell.request
    arrays, _ = data.load_arrays(
        cell.stream,
        request.data,
        cell.spec["image_size"],
        request.cache,
        plugins=request.plugins,
        holdout=cell.spec.get("holdout", 0),
    )
    return Kept(path, cell, arrays)
