"""`bench doctor`: what of this machine a run would meet: versions, device, memory, disk, weights, confinement.

Looks only: no network, no download, nothing is left on disk. Every line is a whole sentence; those that begin with
`missing` stop a run, and the exit code is 1 then.
"""

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

OK, SLOW, MISSING = "ok", "slow", "missing"
Finding = tuple[str, str]  # one of the three, and a sentence
DISTRIBUTION = "continual-anomaly-bench"
FREE_DISK = 2 << 30  # bytes; decoded images of MVTec AD at 256 px, and the scores of some cells
FREE_MEMORY = 2 << 30  # bytes, for one cell of tiny size with everything imported


def examine(results: Path, cache: Path, data: Path | None) -> list[Finding]:
    """All findings, in the order in which a run would meet them."""
    found = [*_packages(), *_disk(results, "results"), *_disk(cache, "decoded images"), *_confinement(), *_data(data)]
    try:
        importlib.import_module("bench.backends.preload")  # all third-party packages, their warnings silenced
    except Exception as error:  # a broken installation raises anything
        return [
            *found,
            (MISSING, f"PyTorch and what is built on it cannot be imported: {type(error).__name__}: {error}."),
        ]
    return [*found, *_device(), *_weights()]


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    yield OK, f"Python {sys.version.split()[0]}."
    try:
        asked = [Requirement(text) for text in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        yield (
            MISSING,
            f"{DISTRIBUTION} itself is not installed, so versions go unchecked: pip install -e . in the clone.",
        )
        return
    asked = [one for one in asked if not one.marker or one.marker.evaluate({"extra": ""})]
    wrong = False
    for one in asked:
        try:
            held = version(one.name)
        except PackageNotFoundError:
            wrong = True
            yield MISSING, f'{one.name} is not installed: pip install "{one}".'
            continue
        if not one.specifier.contains(held, prereleases=True):
            wrong = True
            yield MISSING, f'{one.name} {held} is not supported: pip install "{one}".'
    if not wrong:
        yield OK, f"all {len(asked)} required packages have supported versions."


def _disk(folder: Path, what: str) -> Iterator[Finding]:
    import shutil

    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(1 << 20))
            file.flush()
        free = shutil.disk_usage(there).free
    except OSError as error:
        yield MISSING, f"{folder} takes no files for {what} ({error.strerror}): make room or name another folder."
        return
    if free < FREE_DISK:
        yield SLOW, f"{folder} has {_gb(free)} left for {what}: enough for tiny sizes, not for a whole data set."
    else:
        yield OK, f"{folder} has {_gb(free)} left for {what}."


def _confinement() -> Iterator[Finding]:
    from bench.wall import confinement

    held = confinement.version()
    if held:
        yield OK, f"methods are confined by Landlock {held}."
    else:
        yield SLOW, "this kernel has no Landlock: methods run in a process of their own, but could read any file."


def _data(folder: Path | None) -> Iterator[Finding]:
    if folder is None:
        yield OK, "no data folder is named (--data or BENCH_DATA): the synthetic streams need none."
    elif not folder.is_dir():
        yield MISSING, f"the data folder {folder} does not exist: correct --data or BENCH_DATA."
    else:
        yield OK, f"the data folder is {folder}."


def _device() -> Iterator[Finding]:
    import psutil
    import torch

    from bench.training import device

    free = psutil.virtual_memory().available
    enough = OK if free >= FREE_MEMORY else SLOW
    yield enough, f"{os.cpu_count()} CPU cores, {_gb(free)} of memory free; a cell takes about {_gb(FREE_MEMORY)}."
    name = device.resolve_device("auto")
    if name == "cpu":
        yield SLOW, f"PyTorch {torch.__version__} sees no accelerator: tiny sizes run here, paper sizes take days."
        return
    held = device.free_bytes(name)
    yield OK, f"--device auto is {name}, {device.name_of(name)}, {_gb(held)} of its memory free."
    if device.nvml_handle(name) is None:
        yield SLOW, f"NVML does not answer for {name}: tables have no energy and no utilisation (extra `gpu`)."


def _weights() -> Iterator[Finding]:
    from bench import registry
    from bench.schema.request import PROCEDURAL
    from bench.training.weights import hub_of, in_cache

    if PROCEDURAL.is_file():
        yield OK, "the small networks for tiny sizes are at hand."
    else:
        yield MISSING, f"{PROCEDURAL.name}, the small network for tiny sizes, is not there: install the package anew."
    wanted: dict[tuple[str, str], list[str]] = {}  # where weights come from and how else to give them -> who wants them
    for kind in ("method", "detector"):
        for entry in registry.found_entries(kind).values():
            model = getattr(entry.load().Config(), "model", "")
            backbone = entry.declared.get("BACKBONE")
            sources = {hub_of(backbone) if backbone else "": "--weights FILE"}
            sources |= {model if "/" in str(model) else "": f"--set {entry.name}.model=FOLDER"}
            for source, way in sources.items():
                if source:
                    wanted.setdefault((source, way), []).append(entry.name)
    for (source, way), users in sorted(wanted.items()):
        if in_cache(source):
            yield OK, f"{source} is at hand, for {', '.join(users)}."
        else:
            yield SLOW, f"{source} is not at hand: {', '.join(users)} at paper size fetch it, or take {way}."


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
