"""Where cells run: on this machine, on a Ray cluster, under Slurm. One file each, found by its name.

Each has one function, `run(cells, execution, on_event)`: run all cells, and tell `on_event(cell, event)` of every
start, epoch, step and end, once the files of what has ended lie in the results folder.
"""

import importlib
import importlib.util
from types import ModuleType

from bench.errors import BadInput
from bench.schema.execution import Execution
from bench.schema.request import Request

PACKAGES = {"ray": "ray", "slurm": "submitit"}
OWN = {
    "ray": ("address", "gpus_per_cell", "cpus_per_cell"),
    "slurm": ("partition", "time", "sbatch", "slurm_folder", "gpus_per_cell", "cpus_per_cell"),
}


def find_backend(request: Request, execution: Execution) -> ModuleType:
    """Return the back-end that is asked for.

    Raises:
        BadInput: for an option of another back-end, options that contradict each other, or a package not installed.
    """
    name = execution.backend
    for option in dict.fromkeys(option for options_of in OWN.values() for option in options_of):
        if getattr(execution, option) and option not in OWN.get(name, ()):
            owners = " or ".join(f"--backend {owner}" for owner in OWN if option in OWN[owner])
            raise BadInput(f"--{option.replace('_', '-')} belongs to {owners}; this run has --backend {name}.")
    if name != "local":
        _check(request, execution)
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise BadInput(
                f"--backend {name} needs the package {PACKAGES[name]}, which is not installed: "
                f"pip install 'continual-anomaly-bench[{name}]', in a clone pip install -e '.[{name}]'."
            )
    return importlib.import_module(f"bench.backends.{name}")


def _check(request: Request, execution: Execution) -> None:
    gpus, device = execution.gpus_per_cell or 0, request.device
    if gpus < 0 or (execution.cpus_per_cell or 0) < 0:
        raise BadInput("--gpus-per-cell and --cpus-per-cell are not negative: leave them out for 0 GPUs and 1 CPU.")
    if device not in ("auto", "cpu") and not gpus:
        raise BadInput(f"--device {device} needs GPUs to be asked for: add --gpus-per-cell 1.")
    if device == "cpu" and gpus:
        raise BadInput(f"--device cpu leaves the {gpus:g} GPUs of --gpus-per-cell idle: drop one of the two.")
    if request.no_wall:
        raise BadInput("--no-wall is for a debugger on this machine: run it with --backend local.")
    if execution.backend == "ray" and execution.jobs:
        raise BadInput("--jobs is for this machine and for Slurm: on Ray, --cpus-per-cell and --gpus-per-cell decide.")
    if execution.backend == "slurm" and gpus != int(gpus):
        raise BadInput(f"--gpus-per-cell {gpus:g}: Slurm gives whole GPUs; Ray shares them (--backend ray).")


def device(request: Request, execution: Execution) -> str | None:
    """The device of cells that run elsewhere, "cuda" if GPUs are asked for; None for this machine, which can look."""
    if execution.backend == "local":
        return None
    return (request.device if request.device != "auto" else "cuda") if execution.gpus_per_cell else "cpu"
