"""Where and how cells are run: plain values, of which none decides a score but `threads`, in the last bits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Of a run. What belongs to another back-end than the one that is asked for is refused."""

    results: Path = Path("results")  # the tables are written beside it
    # Which cells run: those not finished; beside them none, those that failed, those measured with other code, data or
    # settings than now, those of which the seconds are not their own; or all.
    redo: Literal["missing", "failed", "changed", "disturbed", "all"] = "missing"
    jobs: int | None = None  # cells at a time; None: one per core, at most 8; on a GPU 1
    threads: int = 1  # of the CPU, per cell
    loggers: tuple[str, ...] = ()  # csv, tensorboard, wandb
    backend: Literal["local", "ray", "slurm"] = "local"
    gpus_per_cell: float | None = None  # of Ray, which shares them, and of Slurm
    cpus_per_cell: float | None = None  # likewise; None: `threads`
    address: str | None = None  # of the Ray cluster: auto, local, HOST:PORT or ray://HOST:PORT; None: auto
    partition: str | None = None  # of Slurm
    time: int | None = None  # minutes after which Slurm queues a cell again; None: 120
    sbatch: tuple[str, ...] = ()  # OPTION=VALUE, more of Slurm
    slurm_folder: Path | None = None  # of scripts and logs, seen by all machines; None: logs
