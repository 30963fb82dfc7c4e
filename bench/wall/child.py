"""What runs behind the wall: one step of one method, from what the last step handed over to what it says of images."""

import ctypes
import os
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from avalanche.core import BaseSGDPlugin
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from bench.errors import BadInput
from bench.registry import Entry
from bench.schema import config
from bench.schema.request import BackboneSpec, Weights
from bench.training import device as devices
from bench.training import precision
from bench.training.auto_batch import AutoBatch
from bench.training.backbone import Backbone, Maps, Recall
from bench.training.backbone_fit import unfit
from bench.training.detector import Detector
from bench.training.experiences import TestExperience, TrainImages, train_experience
from bench.training.feature_names import Names, frozen, pixels_of
from bench.training.seeding import make_deterministic, seed_everything, seed_for, untouched_draws
from bench.training.setup import Setup
from bench.training.strategy import Strategy
from bench.wall import state as states
from bench.wall.confinement import DEVICES, confine
from bench.wall.protocol import Channel, ChannelError

PAIR = ("method", "detector")
Tell = Callable[..., None]  # (kind, **what): how far it is, for whoever watches


@dataclass(frozen=True)
class Task:
    """All that a method's process is told of its cell."""

    method: tuple[str, str, str]  # name, file, module ("" for a file given on the command line)
    detector: tuple[str, str, str]
    size: str
    options: dict  # of the method and of the detector, that are set
    image_size: int
    seed: int
    step: int
    device: str
    threads: int
    precision: str
    auto_batch: bool
    backbone: BackboneSpec | None
    ahead: bool = False  # given the images of all steps, as the capability `reads_ahead` asks for

    def header(self) -> dict:
        """As JSON types."""
        return asdict(self)

    @classmethod
    def of(cls, header: dict) -> "Task":
        """Undo `header`."""
        return cls(**header | {"backbone": _backbone(header["backbone"])})


def _backbone(told: dict | None) -> BackboneSpec | None:
    return told and BackboneSpec(
        told["name"], Weights(**told["weights"]), told["arguments"], tuple(told["mean"]), tuple(told["std"]),
        told["seed"],
    )  # fmt: skip


def described(about: dict) -> dict:
    """What a pair's files say before anything is run: JSON types, `overrides` as a request has them.

    `method_config` and `detector_config` as a spec records them; with an `image_size` `unfit`, why the detector cannot
    take the `backbone`.

    Raises:
        BadInput: for what could not be run.
    """
    pair = [(about[kind][0], _module(kind, about[kind])) for kind in PAIR]
    configs = config.configured_pair(*pair, about["size"], about["overrides"])
    size = about["image_size"]
    reason = unfit(pair[1][1], configs[1], size, _backbone(about["backbone"])) if size else ""
    told = {f"{kind}_config": config.recorded(one) for kind, one in zip(PAIR, configs, strict=True)}
    return told | {"unfit": reason}


def build(task: Task, recall: Recall | None = None, tell: Tell = lambda kind, **what: None) -> Strategy:
    """Return the strategy of a cell, everything drawn from the cell's seed; its frozen backbone asks `recall` first.

    The detector is built, and `tell` hears how large it is, before anything of the method's file runs.
    """
    detector = _module("detector", task.detector)
    detector_config = config.resolve(task.detector[0], detector, task.size, task.options["detector"])
    setup = Setup(task.image_size, task.seed, task.device, task.backbone, recall=recall)

    def fresh(seed: int) -> Detector:
        with untouched_draws():
            seed_everything(seed_for(seed, "detector"))
            made = detector.build(detector_config, setup).to(task.device)
        return precision.reduce(made, task.precision)

    built = fresh(task.seed)
    tell("built", **_size_of(built))
    method = _module("method", task.method)
    method_config = config.resolve(task.method[0], method, task.size, task.options["method"])
    seed_everything(seed_for(task.seed, "method"))
    strategy = method.build(method_config, replace(setup, detector=built, fresh=fresh))
    strategy.auto_batch = AutoBatch() if task.auto_batch else None
    return strategy


def _module(kind: str, about: tuple[str, str, str]) -> ModuleType:
    name, file, module = about
    return Entry(kind, name, Path(file), module).load()


def load_carried(strategy: Strategy, carried: list[bytes]) -> Strategy:
    """Put a strategy back where the state of an earlier step left it: detector first, then each plugin.

    What the state of the detector lacks is as it was built: a step's training is not given the banks of the last.
    """
    detector, *plugins = (states.decode_state(content, strategy.device) for content in carried)
    strategy.model.to(strategy.device).load_state_dict(strategy.model.state_dict() | detector)
    for plugin, saved in zip(strategy.methods, plugins, strict=True):
        plugin.load_state_dict(saved)
    return strategy


class Learner:
    """A step: `train` once, then `look` at test images as often as one likes, then `tell`."""

    def __init__(self, task: Task, carried: list[bytes] | None, recall: Recall | None = None, tell: Tell | None = None):
        self.began = time.perf_counter(), self.cpu_seconds()
        make_deterministic(task.threads)
        self.task, self.tell_of = task, tell or (lambda kind, **what: None)
        self.strategy = build(task, recall, self.tell_of)
        if self.strategy.auto_batch:
            self.strategy.auto_batch.tell = lambda text: self.tell_of("note", text=text)
        self.extra = _Extra(self.strategy.methods)
        self.answers = _Answers(task.image_size)
        self.passes = _Epochs(self.tell_of)
        self.strategy.plugins += [self.answers, self.passes]
        if carried is not None:
            load_carried(self.strategy, carried)

    def train(self, given: list[tuple[np.ndarray, np.ndarray | None]]) -> tuple[dict, list[bytes]]:
        """Learn from the images of this step, or of all steps in their order: (N, S, S, 3) uint8 and classes (N,).

        Returns what it cost, and the bytes of what the next step starts from: the detector's and each plugin's.

        Raises:
            StateError: if a state holds what cannot be carried.
        """
        strategy, step = self.strategy, self.task.step
        seed_everything(seed_for(self.task.seed, "train", step))
        with self._advised():
            images = [TrainImages(*one) for one in given]
            with _counted_steps() as optimizer_steps:
                strategy.train(train_experience(images, step, ahead=self.task.ahead), eval_streams=[])
        strategy.let_go()
        carried = [states.encode(strategy.model.state_dict(), f"{type(strategy.model).__name__}.state_dict()")]
        carried += [states.encode(one.state_dict(), f"{type(one).__name__}.state_dict()") for one in strategy.methods]
        split = strategy.auto_batch and strategy.auto_batch.micro_batch
        return {
            "extra_s": self.extra.seconds,
            "train_images": strategy.train_images,
            "optimizer_steps": len(optimizer_steps),
            "micro_batch": split or None,
        }, carried

    def look(self, batches: Iterable[np.ndarray], answer: Callable[[dict[str, np.ndarray]], None], category) -> None:
        """Judge batches (B, S, S, 3) uint8 as they come, and give an answer to each before the next is asked for.

        `category` is the class of all of them where the method is told. An answer holds `scores` (B,), `maps`
        (B, S, S) and, where the method or detector has them, `routes` (B,) and `raw_errors` (B,).
        """
        self.answers.give = answer
        with self._advised():
            self.strategy.eval([TestExperience(batches, category)])

    @contextmanager
    def _advised(self) -> Iterator[None]:
        """Whoever runs out of memory within is told what to change."""
        try:
            yield
        except RuntimeError as error:
            if devices.out_of_memory(error):
                smaller = (
                    "a smaller --image-size, batch (--set DETECTOR.batch_size=N) or network, or --precision bfloat16"
                )
                way = "" if self.task.auto_batch else "--auto-batch, "
                error.add_note(
                    f"The memory of {devices.name_of(self.task.device)} is too small for this: try {way}{smaller}."
                )
            raise

    @property
    def epochs(self) -> int:
        """Passes over the images of the step."""
        return self.passes.epoch

    def cpu_seconds(self) -> float:
        """Processor seconds of this process so far."""
        return time.process_time()

    def tell(self) -> dict[str, Any]:
        """What the methods report of themselves, the pictures that they would replay, and the GPU's peaks."""
        methods = self.strategy.methods
        recalled = [
            {category: (pictures.cpu(), places) for category, (pictures, places) in one.recall().items()}
            for one in methods
        ]
        notes = [{name: float(value) for name, value in one.report().items()} for one in methods]
        return {"notes": notes, "recalled": recalled, "gpu": devices.peak_bytes(self.task.device)}


@contextmanager
def _counted_steps() -> Iterator[list[None]]:
    """One entry per step of any optimizer of this process meanwhile: the detector's, and a method's own."""
    steps: list[None] = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(None))
    try:
        yield steps
    finally:
        hook.remove()


class _Epochs(BaseSGDPlugin, supports_distributed=False):
    """Tells whoever watches how far the training is."""

    def __init__(self, tell: Tell):
        super().__init__()
        self.tell, self.epoch = tell, 0

    def after_training_epoch(self, strategy, **_):
        self.epoch += 1
        self.tell("epoch", epoch=self.epoch, epochs=strategy.train_epochs)


class _Answers(BaseSGDPlugin, supports_distributed=False):
    """Hands over what the strategy says of each batch of test images, maps at `size`."""

    def __init__(self, size: int):
        super().__init__()
        self.size, self.give = size, None

    def after_eval_iteration(self, strategy, **_):
        said = strategy.mb_output
        answer = {"scores": _exact(said.score)}
        if said.map is not None:
            maps = _exact(said.map)
            if maps.shape[-1] != self.size:
                maps = F.interpolate(maps, size=(self.size, self.size), mode="bilinear", align_corners=False)
            answer["maps"] = maps[:, 0]
        if said.route is not None:
            answer["routes"] = said.route.int()
        if (raw := strategy.model.raw_error(strategy.mbatch.image)) is not None:
            answer["raw_errors"] = raw.float()
        self.give({name: value.cpu().numpy() for name, value in answer.items()})


def _exact(values: torch.Tensor) -> torch.Tensor:
    """In a type that NumPy has and that holds every value: half precision as float32, float64 as it is."""
    return values.detach() if values.dtype == torch.float64 else values.detach().float()


class _Extra:
    """Adds up the wall seconds inside every callback that a method's plugins define themselves."""

    def __init__(self, methods: Iterable[BaseSGDPlugin]):
        self.seconds = 0.0
        for plugin in methods:
            for name in dir(BaseSGDPlugin):
                own = getattr(type(plugin), name) is not getattr(BaseSGDPlugin, name)
                if name.startswith(("before_", "after_")) and own:
                    setattr(plugin, name, self._timed(getattr(plugin, name)))

    def _timed(self, callback):
        def timed(strategy, *args, **kwargs):
            start = time.perf_counter()
            try:
                return callback(strategy, *args, **kwargs)
            finally:
                devices.synchronize(strategy.device)  # queued work counts
                self.seconds += time.perf_counter() - start

        return timed


def _size_of(detector: torch.nn.Module) -> dict[str, Any]:
    """Parameters (all, trainable), bytes with buffers, epochs, the sizes of each entry of the state, what grows."""
    parameters, buffers = list(detector.parameters()), list(detector.buffers())
    entries = states.sizes_of(detector.state_dict())
    both = detector.named_parameters(remove_duplicate=False), detector.named_buffers(remove_duplicate=False)
    tensors = {name for named in both for name, _ in named}
    others = sum(sum(size) for name, size in entries.items() if name not in tensors)  # as of `get_extra_state`
    # Buffers that it may fill with what it sees, as a memory bank: they are built empty, or hold but zeros. Those of
    # torch's own layers do not grow.
    modules = [(path, one) for path, one in detector.named_modules() if not type(one).__module__.startswith("torch.")]
    grows = [
        f"{path}.{name}".removeprefix(".")
        for path, one in modules
        for name, value in one.named_buffers(recurse=False)
        if value.is_floating_point() and not value.any()
    ]
    return {
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "detector_bytes": sum(t.nbytes for t in parameters + buffers) + others,
        "epochs": detector.epochs,
        "entries": entries,
        "grows": grows,
    }


def main(end: socket.socket, scratch: str, witness: socket.socket) -> None:
    """The body of a step's process: confine it, build the method, and answer the bench until it hangs up."""
    low, high = sorted((end.fileno(), witness.fileno()))
    for first, last in ((3, low), (low + 1, high), (high + 1, 1 << 16)):
        os.closerange(first, last)
    warnings.simplefilter("ignore")  # third-party chatter; what matters becomes an event or a traceback
    channel = Channel(end)
    with suppress(ChannelError):  # it hung up
        try:
            _serve(channel, scratch, witness)
        except BadInput as error:
            channel.send("bad input", reason=str(error))
        except (Exception, SystemExit) as error:
            if isinstance(error, ChannelError):
                raise
            channel.send("failed", reason=traceback.format_exc())
        while True:  # what is still under way is let in, so that the last word is heard
            channel.receive()


def _serve(channel: Channel, scratch: str, witness: socket.socket) -> None:
    header, arrays = channel.receive()
    _settle(scratch, header["readable"])
    open_to_it = header["readable"], [*DEVICES, *devices.nodes(), scratch]
    places = "\0\0\0".join("\0".join(map(os.path.realpath, paths)) for paths in open_to_it)
    with witness:  # from `confine` on until the listener is handed over, no file may be asked for
        closed, listener = confine(*open_to_it) if header["confine"] else ([], None)
        if listener is not None:
            socket.send_fds(witness, [places.encode()], [listener])
            os.close(listener)
    if header["kind"] == "describe":
        channel.send("described", **described(header["about"]))
        return
    recall = _asking(channel) if header["features"] else None
    learner = Learner(Task.of(header["task"]), _carried(arrays), recall, channel.send)
    channel.send("ready", closed=closed)
    while True:
        _answer(learner, channel, *channel.receive())


def _settle(scratch: str, readable: list[str]) -> None:
    """Let libraries write into `scratch` what they write of their own accord, and import from what is `readable` only.

    Python lists a folder of its path again when that has changed, as the folder of a run does: it would be refused.
    """
    places = [(place, os.path.realpath(place)) for place in sys.path if place]
    sys.path[:] = [place for place, real in places
                   if any(os.path.commonpath((real, known)) in (real, known) for known in readable)]  # fmt: skip
    os.environ.setdefault("TORCH_HOME", os.path.expanduser("~/.cache/torch"))
    # No word of the command line and no variable that tells where the data and the results lie is left, not even where
    # the kernel keeps what a program began with: Landlock lets everybody ask for the size of a file that they name.
    sys.argv[:], sys.orig_argv[:] = [""], [sys.executable]
    for name in ("PWD", "OLDPWD", "_"):
        os.environ.pop(name, None)
    for name, value in os.environ.items():
        os.environ[name] = value  # moves it out of there
    with suppress(OSError), open("/proc/self/stat") as file:
        start, _, _, end = map(int, file.read().rpartition(")")[2].split()[45:49])
        ctypes.memset(start, 0, end - start)
    os.environ["TMPDIR"] = os.environ["HOME"] = tempfile.tempdir = scratch  # looked up once, before the fork
    os.chdir(scratch)
    sys.dont_write_bytecode = True


def _answer(learner: Learner, channel: Channel, header: dict, arrays: dict[str, np.ndarray]) -> None:
    if header["kind"] == "train":
        given = [(arrays[f"images/{step}"], arrays.get(f"categories/{step}")) for step in range(header["steps"])]
        about, carried = learner.train(given)
        channel.send("trained", {f"state/{place}": content for place, content in enumerate(carried)}, **about)
    elif header["kind"] == "look":
        learner.look(_batches(channel), lambda answer: channel.send("answer", answer), header["category"])
        channel.send("looked")
    else:
        told = learner.tell()
        pictures = states.encode(told.pop("recalled"), "recall()")
        channel.send("told", {"recalled": pictures}, **told)


def _batches(channel: Channel) -> Iterable[np.ndarray]:
    while True:
        header, arrays = channel.receive()
        if header["kind"] != "images":
            return
        yield arrays["images"]


def _carried(arrays: Mapping[str, np.ndarray]) -> list[bytes] | None:
    return [memoryview(arrays[f"state/{place}"]) for place in range(len(arrays))] or None


def _asking(channel: Channel) -> Recall:
    """What a frozen backbone asks before it computes: the bench, which makes and keeps the features of pictures."""
    names = Names()

    def recall(network: Backbone, image: torch.Tensor) -> Maps:
        pixels = pixels_of(image) if frozen(network) else None
        if pixels is None:
            return network.compute(image)
        channel.send("features", {"images": pixels.numpy()}, recipe=network.recipe, home=names.home(network, image))
        _, found = channel.receive()
        if not found:
            return network.compute(image)
        return OrderedDict((layer, torch.from_numpy(found[layer]).to(image.device)) for layer in network.layers)

    return recall
