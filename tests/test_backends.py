"""Cells elsewhere: on a Ray cluster of three machines of which one is lost, under Slurm, and what comes back."""

import json
import os
import re
import threading
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from trace import Traces

import numpy as np
import psutil
import pytest

from bench import backends, cli, results, session
from bench.backends import node, pool
from bench.cli import running
from bench.errors import BadInput
from bench.schema.execution import Execution
from bench.schema.request import Request

MEMORY = 100 * 2**20  # of each object store


@pytest.fixture
def traces(tmp_path):
    return Traces(tmp_path)


def command(traces, seeds: str, *more: str) -> list[str]:
    quick = ("--set", "autoencoder.epochs=1", "--set", f"trace.hold={traces.file}", "--scenario", "mini.yaml")
    which = ("--methods", "trace", "--detectors", "autoencoder", "--plugin", str(traces.method), "--seeds", seeds)
    return ["run", *which, *quick, *more]


def planned(traces, seeds: str, *more: str):
    """The cells of a command, what it asks for and how."""
    options = cli.parser().parse_args(command(traces, seeds, *more))
    request, execution = running.asked(options)
    results.check_disk(execution.results)
    return session._cells_of(request, execution), request, execution


def confined(cell) -> bool:
    return cell["wall"]["confined"] and "sockets" in cell["wall"]["closed"] and not cell["wall"]["refused"]


def until(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster():
    """Three Ray nodes with a CPU each."""
    pytest.importorskip("ray")
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112 - it would count what other programs hold
    from ray.cluster_utils import Cluster

    machine = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=machine)
    for _ in range(2):
        cluster.add_node(**machine)
    yield cluster
    cluster.shutdown()


def raylet(machine) -> int:
    return machine.all_processes["raylet"][0].process.pid


@pytest.mark.slow
def test_a_lost_machine_loses_nothing_and_runs_nothing_twice(bench, traces, cluster):
    victim = max(cluster.worker_nodes, key=raylet)
    traces.hold(f"machine {raylet(victim)}")
    lost = []

    def kill():
        try:
            until(traces.held)
            lost.extend(traces.held())
            cluster.remove_node(victim, allow_graceful=False)
        except Exception:
            traces.hold()  # so that the run ends
            raise

    killer = threading.Thread(target=kill)
    killer.start()
    again = command(traces, "0,1,2,3,7", "--backend", "ray", "--address", cluster.address)
    code, output = bench(*again)
    killer.join()
    assert code == 1 and "4 cells ran, 1 failed" in output
    assert output.count("was lost with its machine") == output.count("goes on at step 2 of 2") == len(lost) > 0
    done = re.findall(r"seed (\d): step (\d)/2", output)
    assert sorted(done) == list(product("0123", "12"))  # each step of each cell once, the lost one's too
    assert output.count("seed 7: FAILED") == 1  # who fails by himself is not tried again
    found = {path.stem: cell for path, cell in results.scan(Path("results"))}
    wanted = {f"seed-{seed}": "ok" for seed in range(4)} | {"seed-7": "failed"}
    assert {name: cell["status"] for name, cell in found.items()} == wanted
    assert all(confined(cell) for cell in found.values())
    written = {path: path.read_bytes() for path, _ in results.scan(Path("results"))}
    code, output = bench(*again)
    assert code == 1 and "4 were finished before" in output, "what has failed stays failed until it is mended"
    assert "1 failed before (--redo failed)" in output
    assert all(path.read_bytes() == content for path, content in written.items())


@pytest.mark.slow
def test_a_stopped_run_cancels_what_runs_and_keeps_what_is_done(bench, traces, cluster):
    cluster.wait_for_nodes()  # until the lost one is known to be lost: this process may take it for its own
    cells, request, execution = planned(traces, "1", "--backend", "ray", "--address", cluster.address)
    traces.hold("seed 1")
    begun = []

    def stop(cell, event):
        if "step" in event:
            until(traces.held)
            begun.extend(traces.held().values())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backends.find_backend(request, execution).run(cells, execution, stop)
    assert begun  # each step is a process of its own
    until(lambda: not any(psutil.pid_exists(process) for process in begun))
    until(lambda: not traces.held())  # its scratch folder has gone
    found = results.read(results.cell_path(execution.results, cells[0].spec))
    tested = np.isfinite(np.array(found["matrices"]["image_auroc"], float)).any(axis=1)
    assert found["status"] == "partial" and tested.tolist() == [True, False]


def test_a_cluster_that_is_not_there_is_told(bench, traces):
    pytest.importorskip("ray")
    code, output = bench(*command(traces, "0", "--backend", "ray", "--address", "127.0.0.1:1"))
    assert code == 2 and "--address 127.0.0.1:1: no Ray cluster there" in output


@pytest.mark.slow
def test_jobs_of_slurm_run_cells(bench, traces):
    pytest.importorskip("submitit")
    cells, request, execution = planned(traces, "0,7", "--backend", "slurm", "--time", "5")
    heard = []
    backends.find_backend(request, execution).run(
        cells, execution, lambda cell, event: heard.append((cell.spec["seed"], event)), cluster="local"
    )
    events = [[event for seed, event in heard if seed == number] for number in (0, 7)]
    assert [next(iter(event)) for event in events[0]] == ["start", "epoch", "step", "epoch", "step", "done"]
    assert [event.get("done") for event in events[1]] == [None, "failed"]
    found = [results.read(path) for path in sorted(Path("results").rglob("seed-*.json"))]
    assert [cell["status"] for cell in found] == ["ok", "failed"] and all(map(confined, found))
    assert found[0]["notes"]["began"] == sorted(found[0]["notes"]["began"])


def test_the_script_for_slurm_says_what_was_asked_for(bench, traces):
    pytest.importorskip("submitit")
    asked = (
        "--partition",
        "big",
        "--time",
        "90",
        "--gpus-per-cell",
        "2",
        "--cpus-per-cell",
        "4",
        "--sbatch",
        "account=lab",
    )
    code, output = bench(*command(traces, "0,1,2", "--backend", "slurm", "--jobs", "2", *asked, "--dry-run"))
    assert code == 0 and not list(Path("results").rglob("seed-*.json"))
    wanted = ("partition=big", "time=90", "gpus-per-node=2", "cpus-per-task=4", "array=0-2%2", "account=lab")
    assert {f"#SBATCH --{line}" for line in wanted} <= set(output.splitlines())
    assert "-m submitit.core._submit" in output
    code, output = bench(*command(traces, "0", "--backend", "slurm", *asked, "--dry-run"))
    assert code == 0 and "--array" not in output


def test_no_slurm_here_is_told(bench, traces, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    code, output = bench(*command(traces, "0", "--backend", "slurm"))
    assert code == 2 and "the jobs were not submitted" in output and "--dry-run" in output


def test_news_of_a_line_half_written_wait(tmp_path):
    slurm = pytest.importorskip("bench.backends.slurm")
    post = slurm.Post(tmp_path / "events")
    assert post.news() == []
    post({"epoch": 1})
    with post.path.open("a") as file:
        file.write(json.dumps({"epoch": 2})[:5])
    assert post.news() == [{"epoch": 1}]
    with post.path.open("a") as file:
        file.write(json.dumps({"epoch": 2})[5:] + "\n")
    assert post.news() == [{"epoch": 2}] and post.news() == []


@pytest.fixture
def job(bench, traces):
    cells, _, execution = planned(traces, "0", "--keep")
    return node.jobs(cells, execution)[0]


@pytest.mark.slow
def test_where_the_results_are_out_of_sight_the_files_are_sent(job, traces):
    path = results.cell_path(job.root, job.cell.spec)
    mark = job.root / ".lock" / "mark"
    mark.rename(mark.with_name("elsewhere"))
    heard = []
    ended, files = node.work_on_job(job, heard.append)
    assert ended["done"] == "ok" and [event["step"] for event in heard if "step" in event and "start" not in event] == [
        1,
        2,
    ]
    assert not path.exists()
    path.parent.mkdir(parents=True)
    path.with_suffix(".ckpt").write_text("of a run that was stopped")
    node.receive(job, files)
    assert results.read(path)["status"] == "ok"
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "seed-0.json", "seed-0.scores.npz", "seed-0.step-0.ckpt", "seed-0.step-1.ckpt",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_cell_that_ended_before_it_could_say_so_is_not_run_again(job, traces, monkeypatch):
    assert node.work_on_job(job, print)[0]["done"] == "ok"
    path = results.cell_path(job.root, job.cell.spec)
    written = path.read_bytes()
    ended, files = node.work_on_job(job, print)
    assert ended["done"] == "ok" and ended["seconds"] >= 0 and not files
    assert path.read_bytes() == written
    assert not list((job.root / ".lock").glob("*.lock"))


@pytest.mark.slow
def test_a_cell_that_is_to_be_run_again_is(job):
    node.work_on_job(job, print)
    path = results.cell_path(job.root, job.cell.spec)
    first = results.read(path)
    again = node.jobs([job.cell], Execution(results=job.root, redo="all"))[0]
    assert node.work_on_job(again, print)[0]["done"] == "ok"
    record = results.read(path)
    assert record["notes"]["began"][0] > first["notes"]["began"][1] and record["matrices"] == first["matrices"]


def test_other_images_on_a_machine_are_refused(job):
    other = replace(job.cell, spec=replace(job.cell.spec, fingerprint="0" * 64))
    job = replace(job, cell=other)
    ended, files = node.work_on_job(job, print)
    assert ended["done"] == "bad input" and "fingerprint" in ended["reason"] and not files


@pytest.mark.slow
def test_a_process_that_dies_is_a_result(job, monkeypatch):
    died = {"done": "died", "reason": "exit code -9"}
    monkeypatch.setattr(pool, "run_in_processes", lambda *_, on_event, **__: on_event(job.cell, died))
    assert node.work_on_job(job, print) == (died, {})


@pytest.mark.parametrize(
    "wrong, says",
    [
        (("--partition", "big"), "--partition belongs to --backend slurm; this run has --backend local"),
        (("--backend", "ray", "--time", "5"), "--time belongs to --backend slurm"),
        (("--gpus-per-cell", "1"), "--gpus-per-cell belongs to --backend ray or --backend slurm"),
        (("--backend", "slurm", "--gpus-per-cell", "0.5"), "Slurm gives whole GPUs"),
        (("--backend", "slurm", "--gpus-per-cell", "-1"), "not negative"),
        (("--backend", "ray", "--jobs", "2"), "--jobs is for this machine and for Slurm"),
        (("--backend", "ray", "--no-wall"), "--backend local"),
        (("--backend", "ray", "--device", "cuda"), "add --gpus-per-cell"),
        (("--backend", "ray", "--device", "cpu", "--gpus-per-cell", "1"), "idle"),
        (("--backend", "slurm", "--sbatch", "account", "--dry-run"), "OPTION=VALUE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_that_do_not_go_together_are_refused(bench, traces, wrong, says):
    code, output = bench(*command(traces, "0", *wrong))
    assert code == 2 and says in output and output.count("\n") == 1


def test_a_package_that_is_missing_is_told(monkeypatch):
    monkeypatch.setitem(backends.PACKAGES, "ray", "no_such_package")
    with pytest.raises(BadInput, match=r"no_such_package.*pip install"):
        backends.find_backend(Request(methods=("all",)), Execution(backend="ray"))


def test_gpus_asked_for_are_used_without_one_here():
    request = Request(methods=("all",))
    on_ray = [Execution(backend="ray", gpus_per_cell=count) for count in (None, 0.5)]
    assert [backends.device(request, execution) for execution in on_ray] == ["cpu", "cuda"]
    assert backends.device(request, Execution()) is None
