"""Puts a cell together: its detector, as it starts, under its method."""

from dataclasses import replace

from bench import registry
from bench.api import Detector, Setup, Strategy
from bench.runner.environment import seed_everything, seed_for, untouched_draws
from bench.schema import config
from bench.schema.request import Cell
from bench.training import precision
from bench.training.backbone import Recall


def build(cell: Cell, recall: Recall | None = None) -> Strategy:
    """Return the strategy of a cell, everything drawn from the cell's seed; its frozen backbone asks `recall` first."""
    spec, device = cell.spec, cell.request.device
    method, detector = (registry.find(kind, spec[kind], cell.request.plugins).load() for kind in ("method", "detector"))
    parts = (spec["method"], method), (spec["detector"], detector)
    method_config, detector_config = config.pair(*parts, spec["size"], cell.request.overrides)
    setup = Setup(spec["image_size"], spec["seed"], device, cell.backbone, recall=recall)

    def fresh(seed: int) -> Detector:
        with untouched_draws():
            seed_everything(seed_for(seed, "detector"))
            made = detector.build(detector_config, setup).to(device)
        return precision.reduce(made, spec.get("precision", "float32"))

    built = fresh(spec["seed"])
    seed_everything(seed_for(spec["seed"], "method"))
    return method.build(method_config, replace(setup, detector=built, fresh=fresh))
