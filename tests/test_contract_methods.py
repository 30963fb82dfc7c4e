"""What every method owes: found by the registry, a new one adds no line here."""

import io

import pytest
import torch
from avalanche.core import BaseSGDPlugin
from mini import build, cell, pairs, quick, read, scores, train

from bench import registry
from bench.data import rows_of
from bench.metrics.scoring import PIXEL_METRICS
from bench.runner import run

PAIRS = pairs()


@pytest.fixture(params=PAIRS, ids="+".join)
def pair(request):
    return request.param


@pytest.fixture
def entry(pair):
    return registry.find("method", pair[0])


def test_file_says_what_it_is(entry):
    assert 10 <= len(entry.summary) <= 120, "the first docstring line is the row of `bench list`"
    assert set(entry.declared["CAPABILITIES"]) <= {"reads_ahead", "task_oracle", "labels"}


def test_config_is_frozen_and_has_a_tiny_size(entry):
    module = entry.load()
    assert module.Config.__dataclass_params__.frozen
    assert isinstance(module.Config.tiny(), module.Config)


def test_callbacks_exist_in_avalanche(pair):
    for plugin in build(*pair).methods:
        ours = {name for name in dir(plugin) if name.startswith(("bef", "aft"))}
        assert ours <= set(dir(BaseSGDPlugin)), f"misspelt, so never called: {ours - set(dir(BaseSGDPlugin))}"


def test_a_cell_runs_to_its_end_with_a_row_per_step(pair, stream, cache, tmp_path):
    events = []
    parts = (registry.find(kind, name) for kind, name in zip(("method", "detector"), pair, strict=True))
    planned = cell(stream, cache, *pair, overrides={part.name: quick(part) for part in parts})
    run(planned, tmp_path, events.append)
    record = read(tmp_path, planned)
    assert record["status"] == "ok", record["reason"]
    image_level = "image_level" in registry.find("detector", pair[1]).declared["TRAITS"]
    for name, matrix in record["matrices"].items():
        told = not (image_level and name in PIXEL_METRICS)
        for t, row in enumerate(matrix):
            assert [value == value for value in row] == [told and c <= t for c in range(len(stream.classes))]
    assert len(record["cost"]["train_s"]) == len(stream.steps)
    assert not list(tmp_path.rglob("*.ckpt"))
    assert events[-1]["done"] == "ok"


def test_state_dict_continues_to_the_same_scores(pair, stream, arrays):
    """Train two steps; hand detector and plugin states to a twin; both must learn the third alike."""
    method = pair[0]
    one, two = build(*pair), build(*pair, seed=7)
    train(one, stream, arrays, method=method, last=2)
    saved = io.BytesIO()
    torch.save([one.model.state_dict(), *(plugin.state_dict() for plugin in one.methods)], saved)
    saved.seek(0)
    detector, *plugins = torch.load(saved, weights_only=True)
    two.model.load_state_dict(detector)
    for plugin, state in zip(two.methods, plugins, strict=True):
        plugin.load_state_dict(state)
    rows = rows_of(arrays, [0, 2], train=False)
    for strategy in (one, two):
        train(strategy, stream, arrays, method=method, first=2)
    assert torch.equal(scores(one, arrays, rows), scores(two, arrays, rows))
