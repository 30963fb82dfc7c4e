"""The bench's side of a step's process: what is given, what is taken, the clock, and who ends it."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench import registry
from bench.errors import BadInput, printable
from bench.registry.source import source_files
from bench.schema import config
from bench.schema.request import BackboneSpec, Cell, Request
from bench.wall import state as states
from bench.wall.child import PAIR, Learner, Task
from bench.wall.confinement import OFF, code
from bench.wall.nursery import Nursery
from bench.wall.protocol import Channel, ChannelError, MessageError

NOTE = 300  # letters of a note that are passed on
ALONE = {  # numbers that a step says of itself -> what they are, and what its code must leave alone
    "extra_s": "it is the seconds in the callbacks of its plugins, so leave the functions of `time` as they are",
    "train_images": "it counts the images that went through the loss, so leave `strategy.train_images` as it is",
    "optimizer_steps": "it counts the steps of PyTorch's optimizers, so leave their hooks as they are",
    "epochs": "it is the epochs of its row, so leave `strategy.train_epochs` as it is",
}

Given = list[tuple[np.ndarray, np.ndarray | None]]  # per step: images (N, S, S, 3) uint8, and classes (N,) if told
Answer = dict[str, np.ndarray]  # scores (B,), maps (B, S, S), maybe routes (B,) and raw_errors (B,)


class MethodError(RuntimeError):
    """A method's process failed; the text is its own traceback, or how it ended."""


class Step(Protocol):
    """What the bench asks of a step, in this order; `Learner` is the same without a wall."""

    def train(self, given: Given) -> tuple[dict, list[bytes]]: ...
    def look(self, batches: Iterable[np.ndarray], answer: Callable[[Answer], None], category: int | None) -> None: ...
    def tell(self) -> dict[str, Any]: ...


@dataclass
class Used:
    """What a step's process used, known once it has ended."""

    closed: list[str] = field(default_factory=list)  # to it, in words
    refused: list[str] = field(default_factory=list)  # what it tried nevertheless, in words
    cpu_s: float = 0.0  # of it and all that it started
    peak_rss_bytes: int = 0


def task_of(cell: Cell, step: int, threads: int = 1) -> Task:
    """All that a method's process is told of its cell."""
    spec, asked = cell.spec, cell.request
    found = _entries_of(cell)
    method, detector = ((entry.name, str(entry.file), entry.module) for entry in found)
    released = [bool(entry.declared["AS_RELEASED"]) for entry in found]
    options = config.split(method[0], detector[0], asked.overrides, spec["method_config"], released)
    options = dict(zip(PAIR, options, strict=True))
    return Task(
        method, detector, spec["size"], options, spec["image_size"], spec["seed"], step, asked.device, threads,
        spec.get("precision", "float32"), bool(spec.get("auto_batch")), cell.backbone,
        "reads_ahead" in cell.capabilities,
    )  # fmt: skip


def readable(cell: Cell) -> list[str]:
    """What its method may read beside the bench's code."""
    return may_read(_entries_of(cell), cell.request, cell.backbone)


def _entries_of(cell: Cell) -> list[registry.Entry]:
    return [registry.find_entry(kind, cell.spec[kind], cell.request.plugins) for kind in PAIR]


def may_read(found: Sequence[registry.Entry], asked: Request, backbone: BackboneSpec | None) -> list[str]:
    """What they may read beside the bench's code: their files, weights that are given, and the hubs' caches."""
    named = [value for options in asked.overrides.values() for value in options.values() if isinstance(value, str)]
    weights = backbone.weights.file if backbone else ""
    hubs = [Path.home() / ".cache" / folder for folder in ("huggingface", "torch")]
    packages = [entry.file.parent for entry in found if entry.module]  # wherever an entry point leads
    sources = [file for entry in found for file in source_files(entry)]
    places = [*sources, *packages, *filter(None, [*named, weights]), *hubs]
    return [str(Path(place).resolve()) for place in places if Path(place).exists()]


class Confined:
    """A step in a process of its own."""

    def __init__(self, channel: Channel, process: int, features, tell):
        self.channel, self.process, self.features, self.told = channel, process, features, tell
        self.built = False  # told once, before the method's code runs: what comes later is the method's word
        self.began = time.perf_counter(), 0.0  # then: the clock, and the processor seconds so far
        self.epochs = 0  # told of

    def train(self, given: Given) -> tuple[dict, list[bytes]]:
        arrays = {f"images/{step}": images for step, (images, _) in enumerate(given)}
        arrays |= {f"categories/{step}": told for step, (_, told) in enumerate(given) if told is not None}
        self.channel.send("train", arrays, steps=len(given))
        header, states = self.hear("trained")
        split = header.get("micro_batch") and _amount(header, "micro_batch")
        told = {name: _amount(header, name) for name in ("extra_s", "train_images", "optimizer_steps")}
        told["micro_batch"] = split
        return told, [states[f"state/{place}"].tobytes() for place in range(len(states))]

    def look(self, batches: Iterable[np.ndarray], answer: Callable[[Answer], None], category: int | None) -> None:
        self.channel.send("look", category=category)
        for images in batches:
            self.channel.send("images", {"images": images})
            answer(self.hear("answer")[1])
        self.channel.send("no more")
        self.hear("looked")

    def tell(self) -> dict[str, Any]:
        self.channel.send("tell")
        header, arrays = self.hear("told")
        for notes in header["notes"]:
            for name in notes:
                _number(notes, name)
        return header | {"recalled": states.decode_state(arrays["recalled"].tobytes(), classes=False)}

    def cpu_seconds(self) -> float:
        """Processor seconds so far of the process, its threads, and of what it started and waited for."""
        return cpu_seconds(self.process)

    def hear(self, kind: str) -> tuple[dict, dict[str, np.ndarray]]:
        """The message of this kind; what comes before it is answered or passed on.

        Raises:
            MethodError: if the method failed instead.
            BadInput: if it refused what the user gave.
            ChannelError: if it hung up.
            MessageError: if it sends something else.
        """
        while True:
            header, arrays = self.channel.receive()
            found = header.pop("kind")
            if found == kind:
                return header, arrays
            if found == "features" and self.features:
                self.channel.send("features", self.features(header["recipe"], header["home"], arrays["images"]))
            elif found == "built" and not self.built:
                self.built, self.began = True, (time.perf_counter(), self.cpu_seconds())
                self.told(found, **header)
            elif found == "epoch":
                self.epochs += 1
                self.told(found, **{name: int(_amount(header, name)) or 1 for name in ("epoch", "epochs")})
            elif found == "note":
                self.told(found, text="method: " + printable(header.get("text"), but="")[:NOTE])
            elif found == "failed":
                raise MethodError(printable(header.get("reason")))
            elif found == "bad input":
                raise BadInput(printable(header.get("reason"), but=""))
            else:
                raise MessageError(f"{found[:NOTE]!r} where {kind!r} was due")


def _number(header: dict, name: str) -> float:
    if type(value := header.get(name)) not in (int, float):
        raise _no_fact(name, f"{str(value)[:NOTE]!r}, no number")
    return value


def _amount(header: dict, name: str) -> float:
    if not 0 <= (value := _number(header, name)) < 1 << 53:
        raise _no_fact(name, f"{value}, no amount")
    return value


def _no_fact(name: str, what: str) -> MethodError:
    way = ALONE.get(name, "a plugin may not speak for the bench")
    return MethodError(f"the method's process said of itself that {name} is {what}: {way}.")


def _ended(error: ChannelError | MethodError, code: int) -> MethodError:
    """How the conversation with a step that has ended with an exit code came to its end."""
    if isinstance(error, MethodError):
        return error
    if isinstance(error, MessageError):
        return MethodError(
            f"the method's process sent {error}: a plugin may write to no descriptor that it has not opened itself."
        )
    return MethodError(f"the method's process ended with exit code {code}: {error}")


@contextmanager
def confined(nursery: Nursery, task: Task, carried: list[bytes] | None, used: Used, *, weights=(), features=None,
             tell=lambda kind, **what: None) -> Iterator[Confined]:  # fmt: skip
    """A step behind the wall: built, given what was `carried`, and ended with all that it started.

    `weights`: files and folders beside the code that it may read. `features(recipe, home, images)` answers for a frozen
    backbone; None: it computes itself. `used` is filled in.
    """
    end, process = nursery.fork()
    channel, failed = Channel(end), None
    try:
        arrays = {f"state/{place}": content for place, content in enumerate(carried or ())}
        channel.send(
            "begin",
            arrays,
            task=task.header(),
            features=bool(features),
            readable=[*code(), *weights],
            confine=OFF not in os.environ,
        )
        step = Confined(channel, process, features, tell)
        used.closed = step.hear("ready")[0]["closed"]
        yield step
    except ChannelError as error:
        failed = error
    finally:
        channel.close()
        ended = nursery.end_child()
        used.refused += [what for what in ended["refused"] if what not in used.refused]
        used.cpu_s += ended["cpu_s"]
        used.peak_rss_bytes = max(used.peak_rss_bytes, ended["peak_rss_bytes"])
    if failed:
        raise _ended(failed, ended["code"])


def described(nursery: Nursery, about: dict, readable: Iterable[str]) -> dict:
    """What a plugin's file says of itself, as `bench.wall.child.described`, asked in a process of its own.

    Raises:
        BadInput: for what could not be run, and for a file that tries what is closed to it.
        MethodError: if it fails.
    """
    end, process = nursery.fork()
    channel, failed, told = Channel(end), None, {}
    try:
        channel.send("describe", about=about, readable=[*code(), *readable], confine=OFF not in os.environ)
        told = Confined(channel, process, None, lambda kind, **what: None).hear("described")[0]
    except (ChannelError, MethodError) as error:
        failed = error
    finally:
        channel.close()
        ended = nursery.end_child()
    if ended["refused"]:
        tried = "; to ".join(ended["refused"])
        raise BadInput(
            f"{about['method'][1]} or {about['detector'][1]} was refused what docs/add-a-method.md closes to it, when "
            f"it was imported and asked for its options: it tried to {tried}."
        )
    if failed:
        raise _ended(failed, ended["code"]) from failed
    return {f"{kind}_config": dict(told[f"{kind}_config"]) for kind in ("method", "detector")} | {
        "unfit": printable(told["unfit"], but="")
    }


@contextmanager
def unconfined(nursery: Nursery, task: Task, carried: list[bytes] | None, used: Used, *, features=None,
               tell=lambda kind, **what: None, **_) -> Iterator[Learner]:  # fmt: skip
    """A step in this very process, for debugging."""
    yield Learner(task, carried, None, tell)
    used.cpu_s = time.process_time()


def cpu_seconds(process: int) -> float:
    """Of a step's process with all its threads, and of all that it started, whether it has waited for them or not.

    Whoever has lost its parent is adopted by the nursery, and stays there until the step ends.
    """
    found: dict[int, tuple[int, float]] = {}  # process -> its parent, seconds of it and of those it has waited for
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, IndexError), open(f"/proc/{name}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
            counted = fields[13:15] if int(name) == process else fields[11:15]
            found[int(name)] = int(fields[1]), sum(map(int, counted)) / os.sysconf("SC_CLK_TCK")
    if process not in found:
        return 0.0
    nursery = found[process][0]
    spent = time.clock_gettime(~process << 3 | 2)  # its own, by a finer clock, numbered as in clock_getcpuclockid(3)

    def below_nursery(one: int) -> bool:
        while one in found:
            one = found[one][0]
            if one == nursery:
                return True
        return False

    return spent + sum(seconds for one, (_, seconds) in found.items() if below_nursery(one))
