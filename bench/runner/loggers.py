"""Avalanche loggers on request: every metric of every class and step, as the run goes."""

import csv
from multiprocessing.util import Finalize
from pathlib import Path

from avalanche.logging import BaseLogger, TensorboardLogger

from bench import results
from bench.errors import BadInput
from bench.schema.request import Cell

NAMES = ("csv", "tensorboard", "wandb")


class CsvLogger(BaseLogger):
    """One line per value: step, metric, value. (Avalanche's own CSV logger knows only accuracy and loss.)"""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def log_single_metric(self, name, value, x_plot):
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(("step", "metric", "value"))
            writer.writerow((x_plot, name, value))


class WandbLogger(BaseLogger):
    """A run of Weights & Biases. (Avalanche's own logger calls what wandb no longer has.)"""

    def __init__(self, name: str, folder: Path):
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            import wandb

            self.run = wandb.init(project="continual-anomaly-bench", name=name, dir=str(folder))
        except Exception as error:  # not installed, not logged in, no network: wandb has an error of its own for each
            raise BadInput(
                f"--logger wandb: {error}; WANDB_MODE=offline needs neither a network nor a login."
            ) from error
        Finalize(self, self.run.finish, exitpriority=1)  # `atexit` is not called in a process of a pool

    def log_single_metric(self, name, value, x_plot):
        self.run.log({name: value}, step=x_plot)


def make(names: tuple[str, ...], cell: Cell, root: Path) -> list[BaseLogger]:
    """Build the loggers asked for, writing beside the cell's own file.

    Raises:
        BadInput: for a name that is none of `NAMES`, or a logger whose library is not installed.
    """
    path = results.cell_path(root, cell.spec)
    loggers = []
    for name in names:
        if name == "csv":
            loggers.append(CsvLogger(path.with_suffix(".log.csv")))
        elif name == "tensorboard":
            loggers.append(TensorboardLogger(path.with_suffix(".tensorboard")))
        elif name == "wandb":
            loggers.append(WandbLogger(cell.name, path.with_suffix(".wandb")))
        else:
            raise BadInput(f"no logger {name!r}; there are {', '.join(NAMES)}.")
    return loggers
