"""Every system at paper size, with random weights and no hub: does it start, and what would MVTec AD cost?

    python tests/benchmarks/paper_sizes.py [--only NAME,...] [--seconds 600] [--gigabytes 6]

Each method on its default detector, and each detector under fine-tuning, learns two random images of 256 px as the
first step of a stream and judges two, in a process of its own on one thread. Seconds are the processor's. The hours are
those of training and test on MVTec AD, one class at a time (3,629 training images; all classes seen are tested after
each step, 13,800 images): training seconds per image times images and epochs. What grows faster than the images
(coresets) is more, and what a method does beside is not among them: its seconds on two images stand apart.

Latent diffusion models of a billion weights do not fit: they are built without memory (PyTorch's meta device), and the
seconds are those of their floating-point operations at the speed that this CPU has in a convolution.
"""

import argparse
import dataclasses
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import bench.backends.preload  # noqa: F401, I001 - its children are forked with all imports
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from bench import registry
from bench.schema.request import BackboneSpec, Weights
from bench.wall.child import Learner, Task, build
from methods._latent_diffusion import LatentDiffusion

SIDE, IMAGES = 256, 2
TRAIN, TESTED = 3629, 115 * sum(range(1, 16))  # images of MVTec AD on 1x15
ONCE = ("epochs", "adapt_epochs")
GIVEN = {"efficientad": {"teacher": "random"}}  # of which the paper has weights that are not on any hub
COUNTED = ("amn_diffusion", "one_for_more", "replaycad")  # too large to run
HEAD = ("system", "parameters", "training step", "own work", "prediction", "peak memory", "MVTec 1x15")


def systems() -> list[tuple[str, str]]:
    methods, detectors = registry.found_entries("method"), registry.found_entries("detector")
    default = [(name, registry.default_detector(entry, ())) for name, entry in methods.items()]
    return list(dict.fromkeys([*(("finetune", name) for name in detectors), *default]))


def task(method: str, detector: str) -> Task:
    """The first step of a cell of paper size, each image seen once."""
    entries = [registry.find_entry("method", method), registry.find_entry("detector", detector)]
    options: dict[str, dict] = {}
    for entry in entries:
        known = {field.name for field in dataclasses.fields(entry.load().Config)}
        options[entry.kind] = {name: 1 for name in ONCE if name in known} | GIVEN.get(entry.name, {})
    backbone = entries[1].declared["BACKBONE"]
    named = [(entry.name, str(entry.file), entry.module) for entry in entries]
    return Task(
        *named, "paper", options, SIDE, 0, 0, "cpu", 1, "float32", False,
        backbone and BackboneSpec(backbone, Weights("random")),
        "reads_ahead" in entries[0].declared["CAPABILITIES"],
    )  # fmt: skip


def measured(method: str, detector: str) -> list[str]:
    """A row of the table: two images learned and two judged."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8)
    labels = "labels" in registry.find_entry("method", method).declared["CAPABILITIES"]
    told = {}
    learner = Learner(task(method, detector), None, tell=lambda _, **what: told.update(what))
    start, clock = time.process_time(), time.perf_counter()
    about, _ = learner.train([(images, np.zeros(IMAGES, int) if labels else None)])
    trained = time.process_time() - start
    own = trained * min(1.0, about["extra_s"] / (time.perf_counter() - clock))  # told by the clock, whatever else ran
    start = time.process_time()
    oracle = "task_oracle" in registry.find_entry("method", method).declared["CAPABILITIES"]
    learner.look([images], lambda answer: None, 0 if oracle else None)
    judged = time.process_time() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return row(method, detector, told["parameters"], trained - own, own, judged, peak)


def row(method, detector, parameters, step, own, judged, peak) -> list[str]:
    """Seconds of a training step, of the method's own work and of a prediction, each of two images; bytes."""
    epochs = getattr(registry.find_entry("detector", detector).load().Config(), "epochs", 1)
    hours = (TRAIN * epochs * step + TESTED * judged) / IMAGES / 3600
    memory = f"{peak / 1e9:.1f} GB"
    return [f"{method}+{detector}", f"{parameters / 1e6:.1f} M", f"{step:.1f} s", f"{own:.1f} s", f"{judged:.1f} s",
            memory, f"{hours:,.0f} h"]  # fmt: skip


def latent_diffusion(text: str, **unet) -> LatentDiffusion:
    """Stable Diffusion 1.5 or LDM-256, in their true shapes."""
    levels = 4
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
    )  # fmt: skip
    if text == "clip":
        config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        encoder = CLIPTextModel(config)
    else:
        encoder = LDMBertModel(LDMBertConfig())
    length = encoder.config.max_position_embeddings

    def tokenizer(prompts, **_):
        return SimpleNamespace(input_ids=torch.zeros(len(prompts), length, dtype=torch.long))

    return LatentDiffusion(
        vae, UNet2DConditionModel(**unet), encoder, tokenizer, DDIMScheduler(), train_unet=text == "clip"
    )


def operations(function) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def speed() -> float:
    """Floating-point operations a second of this CPU in a convolution of a U-Net, forth and back, on one thread."""
    layer, image = torch.nn.Conv2d(320, 320, 3, padding=1), torch.rand(2, 320, 32, 32, requires_grad=True)

    def once():
        layer(image).sum().backward()

    count = operations(once)
    start = time.process_time()
    for _ in range(3):
        once()
    return 3 * count / (time.process_time() - start)


def counted_amn(method: str) -> list[str]:
    """The detector of One-for-More: two images, by their operations; weights, gradients and Adam as its memory."""
    whole, rate = torch.rand(IMAGES, 3, SIDE, SIDE, device="meta"), speed()
    shape = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
    with (
        torch.device("meta"),
        mock.patch("methods.detectors.amn_diffusion.load") as load,
        mock.patch("methods.detectors.amn_diffusion.corrupted", lambda image, *_: image),
    ):
        load.side_effect = lambda *_, **__: latent_diffusion("clip", **shape)
        model = build(dataclasses.replace(task("finetune", "amn_diffusion"), device="meta")).model
        step = operations(lambda: model.loss(whole).backward()) / rate
        noised = model._latents(whole)
        with torch.no_grad():
            t = torch.tensor([1], device="meta")
            condition = model.masked(2 * whole - 1)
            unet = operations(lambda: model._predict(noised, t, condition))
            judged = (model.config.steps * unet + operations(lambda: model.model.decode(noised)) * 2) / rate
    weights = list(model.parameters())
    held = sum(4 * each.numel() * (4 if each.requires_grad else 1) for each in weights)
    found = row(method, "amn_diffusion", sum(each.numel() for each in weights), step, 0, judged, held)
    return [found[0], found[1], *(f"{each} *" for each in found[2:])]


def counted_replaycad() -> list[str]:
    """ReplayCAD's text-to-image model, for a class: its prompt learned, its images made; detector not included."""
    shape = {"sample_size": 32, "cross_attention_dim": 1280, "attention_head_dim": 8}
    config, rate = registry.find_entry("method", "replaycad").load().Config(), speed()
    with torch.device("meta"):
        model = latent_diffusion("bert", **shape)
        latents, context = torch.rand(IMAGES, 4, 32, 32), torch.rand(IMAGES, 77, 1280, requires_grad=True)
        learn = operations(lambda: model.predict(latents, torch.tensor(1), context).sum().backward())
        with torch.no_grad():
            look = operations(lambda: model.predict(latents, torch.tensor(1), context.detach()))
    step, made = learn / rate, 2 * config.sampling_steps * look / rate  # with and without the prompt
    learned = config.steps * config.batch_size
    hours = 15 * (learned * step + config.replays * made) / IMAGES / 3600
    weights = sum(each.numel() for each in model.parameters())
    return ["replaycad's text-to-image model", f"{weights / 1e6:.1f} M", f"{step:.1f} s *", f"{made:.1f} s * to replay",
            "", f"{4 * weights / 1e9:.1f} GB *", f"{hours:,.0f} h *"]  # fmt: skip


def in_child(function, arguments, seconds: float, gigabytes: float) -> list[str]:
    """What `function` returns in a process of its own, or why not."""

    def body(end):
        torch.set_num_threads(1)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + int(gigabytes * 1e9),) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds),) * 2)
        try:
            end.send(function(*arguments))
        except Exception as error:
            end.send(f"{type(error).__name__}: {str(error)[:150]}")

    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=body, args=(theirs,))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        process.join()
        late = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        found = f"not done in {seconds:.0f} s" if late else f"its process ended with exit code {process.exitcode}"
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of methods or detectors")
    parser.add_argument("--seconds", type=float, default=600, help="most for a system, of the processor")
    parser.add_argument("--gigabytes", type=float, default=6, help="most for a system")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    for method, detector in systems():
        if only and not only & {method, detector}:
            continue
        function, arguments = measured, (method, detector)
        if detector in COUNTED:
            function, arguments = counted_amn, (method,)
        elif method in COUNTED:
            function, arguments = counted_replaycad, ()
        found = in_child(function, arguments, options.seconds, options.gigabytes)
        if isinstance(found, str):
            found = [f"{method}+{detector}", found, *[""] * (len(HEAD) - 2)]
        print(f"| {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
