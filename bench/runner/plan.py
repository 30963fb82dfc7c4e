"""Turns what the user asked for into cells: resolved, checked and keyed before any training is spent."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path

from timm.models import get_pretrained_cfg

from bench import __version__, data, registry
from bench.data.counts import counts
from bench.errors import BadInput
from bench.metrics.ranking import METRIC_VERSION
from bench.registry.source import from_outside, source_digest
from bench.schema import config, stream
from bench.schema.request import (
    PROCEDURAL,
    TINY_BACKBONE,
    BackboneSpec,
    Cell,
    Request,
    Weights,
    prior_digest,
)
from bench.schema.spec import Spec
from bench.training.tokens import check_token_options
from bench.wall import child, nursery, parent


def plan_cells(request: Request, forks: nursery.Nursery | None = None) -> list[Cell]:
    """Resolve a request. What a plugin's file says is asked behind the wall, of a process of `forks`, or of an own one.

    Raises:
        BadInput: for the first thing that could not be run: a name, an option, the data, the weights.
    """
    methods = _entries("method", request.methods, request)
    pairs = [
        (method, detector)
        for method in methods
        for detector in _entries(
            "detector", request.detectors or (registry.default_detector(method, request.plugins),), request
        )
    ]
    running = {entry.name for pair in pairs for entry in pair}
    for owner in request.overrides:
        if owner not in running:
            raise BadInput(f"--set {owner}...: {registry.unknown('method or detector in this run', owner, running)}")
    cells, digest = [], cache(source_digest)  # each file is read once
    described = cache(partial(_described, request, forks))
    streams = [
        stream.reorder(stream.load_stream(name), order)
        for name in dict.fromkeys(request.scenarios)
        for order in dict.fromkeys(request.orders)
    ]
    for size in {request.size or _default_size(chosen, request) for chosen in streams}:
        for pair in pairs:
            described(*pair, size)  # what is wrong with an option is told before data are read
    for chosen in streams:
        size = request.size or _default_size(chosen, request)
        pixels = request.image_size or chosen.image_size
        fingerprint, images, notes = _data(chosen, pixels, request)
        for method, detector in pairs:
            backbone = _backbone(detector, size, request)
            for seed in dict.fromkeys(request.seeds):
                cell = _cell(method, detector, chosen, size, pixels, fingerprint, backbone, seed, request, described)
                cell = dataclasses.replace(cell, images=images, notes=notes)
                cells.append(_with_code(cell, method, detector, digest))
    if not any(_absent(chosen, request) for chosen in streams):
        backbones = {repr(cell.backbone): cell.backbone for cell in cells if cell.backbone and not cell.skip}
        for spec in backbones.values():  # absent or unfitting weights are told before anything is trained
            check_token_options(spec)
    return cells


def _entries(kind: str, names: tuple[str, ...], request: Request) -> list[registry.Entry]:
    entries = registry.found_entries(kind, request.plugins)
    if "all" in names:
        return list(entries.values())
    return [registry.find_entry(kind, name, request.plugins) for name in dict.fromkeys(names)]


def _default_size(chosen: stream.Stream, request: Request) -> str:
    return registry.default_size(chosen.reader, request.plugins)


def _absent(chosen: stream.Stream, request: Request) -> bool:
    """Whether the data are not at hand, and need not be."""
    return request.outline and request.data is None and _default_size(chosen, request) != "tiny"


def _data(chosen: stream.Stream, pixels: int, request: Request) -> tuple[str, Mapping | None, tuple[str, ...]]:
    """(fingerprint, {class: (training, test images)}, notes) of a stream's data; ("", what is known, ()) without."""
    if _absent(chosen, request):
        return "", counts(chosen, request.plugins), ()
    arrays, fingerprint = data.load_arrays(chosen, request.data, pixels, request.cache, plugins=request.plugins)
    return fingerprint, arrays.counts(chosen.classes), tuple(f"{chosen.name}: {note}" for note in arrays.notes)


def _described(request: Request, forks, method: registry.Entry, detector: registry.Entry, size: str, pixels: int = 0):
    """What `bench.wall.child.described` finds; with `pixels` whether the detector can take its backbone, too.

    The project's own files are asked in this very process.
    """
    pair = (method, detector)
    backbone = _backbone(detector, size, request) if pixels else None
    about = {entry.kind: (entry.name, str(entry.file), entry.module) for entry in pair}
    about |= {"size": size, "overrides": request.overrides, "image_size": pixels}
    about |= {"backbone": backbone and dataclasses.asdict(backbone)}
    if request.no_wall or not any(map(from_outside, pair)):
        return child.described(about)
    with nullcontext(forks) if forks else nursery.opened() as forked:
        return parent.described(forked, about, parent.may_read(pair, request, backbone))


def _cell(
    method, detector, chosen, size, pixels, fingerprint, backbone, seed, request, described: Callable[..., dict]
) -> Cell:
    skip = registry.misfit(method, detector, request.precision)
    weights = backbone.weights if backbone else Weights("none")
    about = described(method, detector, size, 0 if skip or _absent(chosen, request) else pixels)
    spec = {
        "scenario": chosen.name,
        "scenario_version": chosen.version,
        "fingerprint": fingerprint,
        "order": chosen.order,
        "classes": list(chosen.classes),
        "steps": [list(step) for step in chosen.steps],
        "image_size": pixels,
        "method": method.name,
        "method_config": about["method_config"],
        "detector": detector.name,
        "detector_config": about["detector_config"],
        "backbone": backbone and backbone.name,
        "backbone_arguments": backbone.construction if backbone else {},
        "weights": {"kind": weights.kind, "source": weights.source, "sha256": weights.sha256},
        "size": size,
        "seed": seed,
        "metric_version": METRIC_VERSION,
        "variant": request.variant(
            (method.name, detector.name), chosen, _default_size(chosen, request), has_backbone=backbone is not None
        ),
    }
    if rarely := request.evaluated(chosen):
        spec["eval_every"] = rarely[0]
    if request.eval_ahead and len(chosen.steps) > 1:
        spec["eval_ahead"] = True
    if share := request.held_out(chosen):
        spec["holdout"] = share
    for part in ("method", "detector"):
        if spec[f"{part}_config"].get("model") == "procedural":
            spec[f"{part}_prior"] = prior_digest()
    if request.precision != "float32":
        spec["precision"] = request.precision
    if request.auto_batch:
        spec["auto_batch"] = True
    tuned_on = method.tuned_on(spec["method_config"], size) + detector.tuned_on(spec["detector_config"], size)
    reason = skip or about["unfit"]
    return Cell(spec, method.declared["CAPABILITIES"], chosen, backbone, request, reason, tuple(tuned_on))


def _with_code(cell: Cell, method: registry.Entry, detector: registry.Entry, digest) -> Cell:
    """The cell with the digests of its source: in its key, where that does not come with the project."""
    readers = [registry.find_entry("scenario", name, cell.request.plugins) for name in cell.stream.reader.split("+")]
    digests = {"method": digest(method), "detector": digest(detector), "scenario": "+".join(map(digest, readers))}
    outside = {"method": from_outside(method), "detector": from_outside(detector)}
    outside["scenario"] = any(map(from_outside, readers))
    own = {kind: digests[kind] for kind in digests if outside[kind]}
    spec = Spec.of(cell.spec | {"plugin_code": own}) if own else Spec.of(cell.spec)
    return dataclasses.replace(cell, spec=spec, code=digests | {"bench": __version__})


def _backbone(detector: registry.Entry, size: str, request: Request) -> BackboneSpec | None:
    preferred = detector.declared["BACKBONE"]
    if preferred is None:
        return None
    text = request.backbone or (TINY_BACKBONE if size == "tiny" else preferred)
    name, _, tail = text.partition(":")
    arguments = config.parse(f"backbone.{part}" for part in tail.split(",") if part).get("backbone", {})
    weights = _weights(request.weights or ("procedural" if size == "tiny" else "imagenet"), name)
    normal = {}
    if weights.kind in ("imagenet", "path") and (record := get_pretrained_cfg(name, allow_unregistered=True)):
        normal = {"mean": tuple(record.mean), "std": tuple(record.std)}  # that they were trained with: .5 for many ViTs
    normal |= {key: (float(arguments.pop(key)),) * 3 for key in ("mean", "std") if key in arguments}
    return BackboneSpec(name, weights, arguments, **normal)


def _weights(text: str, backbone: str) -> Weights:
    if text in ("imagenet", "random"):
        return Weights(text, backbone if text == "imagenet" else "seed 0")
    file = PROCEDURAL if text == "procedural" else Path(text)
    if not file.is_file():
        raise BadInput(f"no weights {text!r}: give imagenet, procedural, random or a .safetensors or .pth file.")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Weights("procedural" if file == PROCEDURAL else "path", file.name, digest, str(file.resolve()))
