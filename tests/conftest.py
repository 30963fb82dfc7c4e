"""Shared by all tests: one thread, no network, a nursery for the steps of cells, and a small rendered stream."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import socket
from contextlib import nullcontext

import pytest

import bench.preload  # noqa: F401 - imports all third-party packages, their warnings silenced
from bench import data
from bench.schema.stream import Stream
from bench.wall import nursery

pytest_plugins = ["command"]  # the fixture `bench`

ASKING, FORKING = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if not os.fork():  # as the fork server's would, it holds the imports and nothing of what is made below
    ASKING.close()
    nursery.serve(FORKING)
    os._exit(0)
FORKING.close()
nursery.opened = lambda: nullcontext(nursery.Nursery(ASKING))

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
    return data.load(stream, None, stream.image_size, cache)[0]
