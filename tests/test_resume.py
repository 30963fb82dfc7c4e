"""A killed run goes on at the next step with the same numbers; a seed decides everything, and only a seed."""

import json
import os
import random
import subprocess
import time

import numpy as np
import pytest
from mini import cell, read

from bench import results
from bench.backends import pool
from bench.results import segments, stored
from bench.runner import checkpoint, environment, run_cell

pytestmark = pytest.mark.slow

PARTS = ("matrices", "pooled", "threshold")


def quick(stream, cache, *, seed=0, method="replay"):
    overrides = {"autoencoder": {"epochs": 4}}
    return cell(stream, cache, method, "autoencoder", seed=seed, overrides=overrides)


def numbers(record: dict) -> str:
    return json.dumps({part: record[part] for part in PARTS})


@pytest.fixture(scope="module")
def reference(stream, cache, tmp_path_factory):
    root = tmp_path_factory.mktemp("reference")
    run_cell(quick(stream, cache), root)
    return read(root, quick(stream, cache))


def test_two_runs_of_one_seed_are_bit_identical(stream, cache, tmp_path, reference):
    run_cell(quick(stream, cache), tmp_path)
    assert numbers(read(tmp_path, quick(stream, cache))) == numbers(reference)


def test_another_seed_differs(stream, cache, tmp_path, reference):
    other = quick(stream, cache, seed=1)
    run_cell(other, tmp_path)
    assert numbers(read(tmp_path, other)) != numbers(reference)


def test_twenty_kills_at_random_moments_change_no_bit(stream, cache, tmp_path, reference):
    context, moment = pool.cell_server(), random.Random(0)
    for kill in range(20):
        events, process, nursery = pool.start(context, quick(stream, cache), tmp_path, 1, (), {})
        time.sleep(moment.uniform(0.0, 0.6) if kill else 5.0 * moment.random())  # the first pays for the imports
        process.kill()  # SIGKILL
        process.join()
        nursery.join()
        events.close()
        path = results.cell_path(tmp_path, quick(stream, cache).spec)
        if path.exists() and read(tmp_path, quick(stream, cache))["status"] == "ok":
            path.unlink()  # it finished before the kill came: start the stream again
    run_cell(quick(stream, cache), tmp_path)
    record = read(tmp_path, quick(stream, cache))
    assert record["status"] == "ok", record["reason"]
    assert numbers(record) == numbers(reference)
    assert len(record["cost"]["train_s"]) == len(stream.steps)


def test_an_interrupted_cell_does_not_train_finished_steps_again(stream, cache, tmp_path, reference):
    events = []

    def stop_after_two(event):
        if event.get("step") == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cell(quick(stream, cache), tmp_path, stop_after_two)
    run_cell(quick(stream, cache), tmp_path, events.append)
    # The interrupt came before step 2 was saved, so exactly that step is done again.
    assert [event["start"] for event in events if "start" in event] == [1]
    assert numbers(read(tmp_path, quick(stream, cache))) == numbers(reference)


COUNTS = '''
"""Counts in an array and a deque."""
from collections import deque
from dataclasses import dataclass
import numpy as np
from bench.api import Plugin, Setup, Strategy

@dataclass(frozen=True)
class Config:
    @classmethod
    def tiny(cls):
        return cls()

class Counts(Plugin):
    def __init__(self):
        super().__init__()
        self.kept, self.last = np.zeros(0), deque(maxlen=2)

    def before_training_exp(self, strategy, **_):
        assert len(self.kept) == strategy.experience.current_experience, "what was carried is gone"

    def after_training_exp(self, strategy, **_):
        self.kept = np.append(self.kept, 1.0)
        self.last.append(np.float32(len(self.kept)))

    def state_dict(self):
        return {"kept": self.kept, "last": self.last}

    def load_state_dict(self, state):
        self.kept, self.last = state["kept"], state["last"]

def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Counts()])
'''


def test_a_state_of_arrays_and_deques_is_gone_on_from(stream, cache, tmp_path):
    (tmp_path / "counts.py").write_text(COUNTS)
    overrides, plugins = {"autoencoder": {"epochs": 1}}, (tmp_path / "counts.py",)
    one = cell(stream, cache, "counts", "autoencoder", overrides=overrides, plugins=plugins)

    def stop_in_the_third(event):
        if event.get("step") == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cell(one, tmp_path, stop_in_the_third)
    events = []
    run_cell(one, tmp_path, events.append)
    assert events[0]["start"] == 2 and events[-1].get("done") == "ok", events[-1]


@pytest.mark.parametrize("what", ["checkpoint", "scores"])
def test_a_byte_that_flipped_is_told_and_the_cell_starts_again(what, stream, cache, tmp_path, reference):
    def stop_after_two(event):
        if event.get("step") == 3:
            raise KeyboardInterrupt

    one = quick(stream, cache)
    with pytest.raises(KeyboardInterrupt):
        run_cell(one, tmp_path, stop_after_two)
    path = results.cell_path(tmp_path, one.spec)
    file = path.with_suffix(".ckpt") if what == "checkpoint" else segments.file_of(stored.scores_path(path), 1)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    events = []
    run_cell(one, tmp_path, events.append)
    told = [event["note"] for event in events if "note" in event]
    assert f"its {'checkpoint is' if what == 'checkpoint' else 'scores of step 2 are'} lost, damaged" in told[0]
    assert numbers(read(tmp_path, one)) == numbers(reference)


def test_a_checkpoint_of_another_configuration_is_not_used(stream, cache, tmp_path):
    one = quick(stream, cache)
    path = results.cell_path(tmp_path, one.spec).with_suffix(".ckpt")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"truncated")
    run_cell(one, tmp_path)  # a broken one is passed over, too
    assert read(tmp_path, one)["status"] == "ok"


@pytest.mark.parametrize("call", [4, 5, 6], ids=["scores", "checkpoint", "cell"])  # of the second step
def test_a_full_disk_loses_no_step_and_says_so(call, stream, cache, tmp_path, monkeypatch, reference):
    real, calls = checkpoint.os.replace, []

    def full(source, target):
        calls.append(target)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(results.BadInput, match="free some space"):
        run_cell(quick(stream, cache), tmp_path)
    monkeypatch.undo()
    partial = read(tmp_path, quick(stream, cache))
    assert partial["status"] == "partial"
    assert np.isfinite(partial["matrices"]["image_auroc"][0][0])
    run_cell(quick(stream, cache), tmp_path)
    assert numbers(read(tmp_path, quick(stream, cache))) == numbers(reference)


def test_a_git_that_is_too_busy_to_name_the_commit_fails_no_cell(monkeypatch):
    run = subprocess.run

    def busy(command, **options):
        if command[0] == "git":
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return run(command, **options)

    monkeypatch.setattr(environment.subprocess, "run", busy)
    assert environment.environment("cpu")["commit"] is None
