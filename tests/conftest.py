"""Shared by all tests: one thread, no network, heavy imports where they are needed, and a small rendered stream."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import heavy
import pytest

from bench import data
from bench.schema.stream import Stream

pytest_plugins = ["command"]  # the fixture `bench`


def pytest_collectstart(collector):
    # Not when the module's node is made: that happens for every file of the folder, also where one file is asked for.
    if isinstance(collector, pytest.Module) and heavy.needs_torch(collector.path):
        heavy.ready()


CLASSES = ("gear", "wood", "board")


@pytest.fixture(scope="session")
def stream() -> Stream:
    """Three procedural classes, one at a time, a dozen images each."""
    options = {"train": 12, "good": 6, "anomalous": 6}
    return Stream("synthetic/mini", 1, "synthetic", tuple((name,) for name in CLASSES), 64, options, "tests")


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def arrays(stream, cache):
    return data.load_arrays(stream, None, stream.image_size, cache)[0]
