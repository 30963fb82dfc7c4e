"""What cells must have in common: to be seeds of one row, to share a table, to be compared with joint training."""

import json

from bench.schema.cell import Spec

OF_THE_METHOD = ("method", "method_config", "method_prior", "variant", "eval_every", "eval_ahead")


def runs_for_debugging(spec: Spec) -> bool:
    """Whether the method ran in the bench's own process (`bench run --no-wall`): such a cell never ranks."""
    return "no_wall" in spec["variant"].split(",")


def weights_key(spec: Spec) -> tuple[str, str, str]:
    """(kind, backbone, identity) of the weights. Random ones are drawn from the seed, so seeds may differ in them."""
    weights = spec["weights"]
    identity = "" if weights["kind"] in ("random", "none") else weights["sha256"] or weights["source"]
    return weights["kind"], spec["backbone"] or "", identity


def block_key(spec: Spec) -> tuple[str, ...]:
    """(detector, *weights_key)."""
    return spec["detector"], *weights_key(spec)


def configuration(spec: Spec) -> str:
    """Canonical text of all that decides the numbers but the seed."""
    rest = {**spec, "seed": 0, "weights": weights_key(spec)}
    return json.dumps(rest, sort_keys=True)


def surroundings(spec: Spec) -> str:
    """Canonical text of all that decides the numbers but the method: data, order, detector, its start, seed."""
    rest = {name: value for name, value in spec.items() if name not in OF_THE_METHOD}
    return json.dumps(rest | {"weights": weights_key(spec)}, sort_keys=True)
