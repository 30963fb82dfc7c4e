"""Under Slurm, by submitit: one array of jobs, a cell each. A job that runs out of time is queued again."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
from submitit.slurm.slurm import SlurmExecutor

from bench.backends import node
from bench.errors import BadInput
from bench.schema.execution import Execution
from bench.schema.request import Cell

MINUTES = 120
PAUSE = 1.0  # seconds between two looks into the folder; submitit asks Slurm itself once a minute


@dataclass
class Post:
    """What a cell says, on its way through the folder of the jobs: one line of JSON per event."""

    path: Path
    read: int = 0  # bytes

    def __call__(self, event: dict) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(event) + "\n")

    def news(self) -> list[dict]:
        """The events since the last call; a line that is still being written waits for the next."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self.read)
            whole = file.read().rpartition(b"\n")[0]
        self.read += len(whole) + bool(whole)
        return [json.loads(line) for line in whole.splitlines()]


class Work(submitit.helpers.Checkpointable):
    """Runs a cell in a job. Out of time, submitit queues it again; it then goes on at the next step."""

    def __call__(self, job: node.Job, post: Post) -> tuple[dict, node.Files]:
        return node.work_on_job(job, post)


class Script(SlurmExecutor):
    """Writes the script of the jobs, on any machine."""

    @classmethod
    def affinity(cls) -> int:
        return 1

    def text(self, cells: int) -> str:
        """The script that would be given to sbatch for so many cells."""
        if cells > 1:
            self.parameters["map_count"] = cells
        return self._make_submission_file_text(self._submitit_command_str, "dry-run")


def run(cells: Sequence[Cell], execution: Execution, on_event: Callable, *, cluster: str = "slurm") -> None:
    """Submit all cells and wait for them; if interrupted, cancel what has not ended.

    Raises:
        BadInput: if there is no Slurm here, or it refuses the jobs.
    """
    folder = _folder(execution)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = node.jobs(cells, execution)
    posts = [Post(folder / f"{cell.key}-{time.time_ns()}.events") for cell in cells]
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        own = {f"slurm_{name}": value for name, value in _own(execution, len(jobs)).items()}
        executor.update_parameters(**_common(execution), **own)
        submitted = executor.map_array(Work(), jobs, posts)
    except (RuntimeError, FailedJobError, FailedSubmissionError) as error:
        raise BadInput(
            f"--backend slurm: the jobs were not submitted ({error}); --dry-run prints the script."
        ) from error
    waiting = dict(enumerate(zip(submitted, cells, jobs, posts, strict=True)))
    try:
        while waiting:
            time.sleep(PAUSE)
            for number, parts in list(waiting.items()):
                if _look(*parts, on_event):
                    del waiting[number]
    finally:
        for lost, *_ in waiting.values():
            lost.cancel()


def slurm_script(cells: int, execution: Execution) -> str:
    """The script that `run` would give to sbatch for so many cells."""
    executor = Script(_folder(execution))
    executor.update_parameters(**executor._convert_parameters(_common(execution)), **_own(execution, cells))
    return executor.text(cells)


def _folder(execution: Execution) -> Path:
    return (execution.slurm_folder or Path("logs")).resolve()


def _common(execution: Execution) -> dict:
    """What submitit names alike everywhere."""
    gpus = {"gpus_per_node": int(execution.gpus_per_cell)} if execution.gpus_per_cell else {}
    cpus = -int(-(execution.cpus_per_cell or execution.threads) // 1)
    return {"name": "bench", "timeout_min": execution.time or MINUTES, "cpus_per_task": cpus} | gpus


def _own(execution: Execution, cells: int) -> dict:
    """What only Slurm knows."""
    if bad := [text for text in execution.sbatch if "=" not in text]:
        raise BadInput(f"--sbatch {bad[0]!r} is not OPTION=VALUE, as in --sbatch account=lab.")
    own = {"array_parallelism": execution.jobs or cells}
    own |= {"partition": execution.partition} if execution.partition else {}
    more = dict(text.lstrip("-").split("=", 1) for text in execution.sbatch)
    own |= {"additional_parameters": more} if more else {}
    return own


def _look(submitted: submitit.Job, cell, job: node.Job, post: Post, on_event) -> bool:
    """Tell what a cell has said since the last look; returns whether it has ended."""
    ended = submitted.done()
    for event in post.news():
        on_event(cell, event)
    if ended:
        try:
            event, files = submitted.result()
        except (UncompletedJobError, FailedJobError) as error:
            event, files = {"done": "died", "reason": str(error)}, {}
        node.receive(job, files)
        on_event(cell, event)
    return ended
