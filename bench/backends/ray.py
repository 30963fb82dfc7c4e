"""On a Ray cluster: every cell is a task. Ray places it, and starts it again where its machine is lost."""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as Ray announces for its next version

import ray
from ray.exceptions import RayError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import bench
from bench.backends import node
from bench.errors import BadInput
from bench.schema.execution import Execution
from bench.schema.request import Cell

RETRIES = 3  # times that a cell may lose its machine
PAUSE = 0.5  # seconds between two looks at what the cells say


def run(cells: Sequence[Cell], execution: Execution, on_event: Callable) -> None:
    """Run all cells; if interrupted, cancel what has not ended and keep what has.

    Raises:
        BadInput: if there is no such cluster, or the results cannot be written.
    """
    jobs = node.jobs(cells, execution)
    with _connected(execution.address or "auto"):
        needs = {"CPU": execution.cpus_per_cell or execution.threads, "GPU": execution.gpus_per_cell or 0}
        machines = [there.get("Resources", {}) for there in ray.nodes() if there["Alive"]]
        if not any(all(machine.get(kind, 0) >= count for kind, count in needs.items()) for machine in machines):
            print(f"no machine of the cluster has {needs['CPU']:g} CPUs and {needs['GPU']:g} GPUs: waiting for one")
        # What a cell raises is no reason to run it again; a lost machine is.
        task = ray.remote(_cell).options(
            num_cpus=needs["CPU"], num_gpus=needs["GPU"], max_retries=RETRIES, retry_exceptions=False,
            scheduling_strategy="SPREAD", name="cell",
        )  # fmt: skip
        # What the cells say is kept beside this process, so that it is not lost with any other machine.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        events = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        sent = {}
        try:
            for number, (cell, job) in enumerate(zip(cells, jobs, strict=True)):
                sent[task.remote(job, events, number)] = cell, job
            while sent:
                _look(sent, cells, events, on_event)
        finally:
            _stop(sent)


def _absent(address: str, error: Exception) -> BadInput:
    reason = str(error).strip().splitlines()[0]
    return BadInput(
        f"--address {address}: no Ray cluster there ({reason}): start one with `ray start --head`, "
        "or use --address local for one on this machine only."
    )


@contextmanager
def _connected(address: str) -> Iterator[None]:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():  # looked for here: Ray itself would try for a quarter of an hour
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise _absent(address, error) from error
    code = os.pathsep.join(filter(None, [str(Path(bench.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    try:
        ray.init(
            address, runtime_env={"env_vars": {"PYTHONPATH": code}}, log_to_driver=False, logging_level=logging.ERROR
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _absent(address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _cell(job: node.Job, events: Queue, number: int) -> tuple[dict, node.Files]:
    """Run a cell on this machine. What it says is not waited for: Ray lends the CPUs of a task that waits."""
    said = []

    def send(event: dict) -> None:
        said[:] = [events.actor.put.remote((number, event))]

    ended = node.work_on_job(job, send)
    ray.get(said)  # they arrive in order, and so before the end
    return ended


def _look(sent: dict, cells, events: Queue, on_event) -> None:
    """Wait a moment; tell what the cells have said, and drop those that have ended from `sent`."""
    ready, _ = ray.wait(list(sent), timeout=PAUSE)
    for number, event in events.get_nowait_batch(events.qsize()):
        on_event(cells[number], event)
    for reference in ready:
        cell, job = sent[reference]
        event = _fetch(reference, job)
        del sent[reference]
        on_event(cell, event)


def _fetch(reference, job: node.Job) -> dict:
    """How a cell ended, its files written."""
    try:
        event, files = ray.get(reference)
    except RayError as error:
        return {"done": "died", "reason": str(error)}
    node.receive(job, files)
    return event


def _stop(sent: dict) -> None:
    """Keep what has come back and nobody has looked at yet; cancel the rest."""
    ready, rest = ray.wait(list(sent), num_returns=len(sent), timeout=0) if sent else ([], [])
    for reference in rest:
        ray.cancel(reference, force=True)
    with suppress(BadInput):
        for reference in ready:
            _fetch(reference, sent[reference][1])
