"""What `submission.yaml` must hold, and what is wrong with one."""

import math
import re
from typing import get_args

from bench.exchange.submission.reading import SCORES
from bench.schema.cell import Capability
from bench.schema.metric import METRICS

REQUIRED = {
    **dict.fromkeys(("method", "detector", "author", "reference", "scenario", "order", "fingerprint"), str),
    "capabilities": list,
    "seed": int,
}
OPTIONAL = {"backbone": str, "weights": str, "tuned_on": list, "cost": dict}
RESULTS = {*METRICS, "matrices", "R", "metrics", "results", "pooled", "threshold", "routing_accuracy", "scores"}
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,59}", re.ASCII)
MOST_TUNED = 20
WEIGHTS = ("none", "imagenet", "random")


def fault_of_form(content: object) -> str | None:
    """What is wrong with a form, worded to follow its path; None if nothing is."""
    if not isinstance(content, dict):
        return f"holds no keys: it needs {', '.join(REQUIRED)}"
    known = REQUIRED | OPTIONAL
    for key in content:
        if key in RESULTS:
            return f"gives {key}: results are never taken from a form, they are computed here from {SCORES}"
        if key not in known:
            return f"has the unknown key {str(key)[:60]!r}: the keys are {', '.join(known)}"
    absent = [key for key in REQUIRED if key not in content]
    if absent:
        return f"lacks {', '.join(absent)}: see docs/submissions.md"
    for key, value in content.items():
        if type(value) is not known[key]:
            return f"has {key} of type {type(value).__name__}: it must be {known[key].__name__}"
    return _words_fault(content)


def _words_fault(content: dict) -> str | None:
    for key in ("method", "detector", *(["backbone"] if "backbone" in content else [])):
        if not NAME.fullmatch(content[key]):
            return f"has the {key} {content[key][:60]!r}: a name is letters, digits and _ . -, at most 60"
    tuned_on = [("tuned_on", text) for text in content.get("tuned_on", ())]
    for key, text in (("author", content["author"]), ("reference", content["reference"]), *tuned_on):
        if not isinstance(text, str) or not 1 <= len(text.strip()) <= 200 or not text.isprintable():
            return f"has {key} {str(text)[:60]!r}: it must be one line of text, at most 200 letters"
    if len(tuned_on) > MOST_TUNED:
        return f"has {len(tuned_on)} lines of tuned_on: at most {MOST_TUNED}, one per thing that was tuned"
    if not re.fullmatch(r"[0-9a-f]{16,64}", content["fingerprint"]):
        return f"has the fingerprint {content['fingerprint'][:70]!r}: give 16 to 64 hex digits, see `bench data check`"
    unknown = [name for name in content["capabilities"] if name not in get_args(Capability)]
    if unknown:
        return f"declares {str(unknown[0])[:60]!r}: capabilities are {', '.join(get_args(Capability))}"
    if not 0 <= content["seed"] < 2**31:
        return f"has the seed {content['seed']}: give a whole number from 0"
    if content.get("weights", "none") not in WEIGHTS:
        return f"has weights {content['weights'][:60]!r}: they are {', '.join(WEIGHTS)}"
    return None


def fault_of_cost(cost: dict, steps: int) -> str | None:
    """The same of its costs, for a stream of so many steps."""
    for key, value in cost.items():
        if key == "device":
            good, wanted = isinstance(value, str) and value.isprintable() and 0 < len(value) <= 100, "a name"
        elif key in ("train_s", "carried_bytes"):
            good = isinstance(value, list) and len(value) == steps and all(map(_is_amount, value))
            wanted = f"a list of {steps} numbers, one per step"
        elif key == "parameters":
            good, wanted = _is_amount(value), "a number"
        elif key == "ms_per_image":
            good = isinstance(value, dict) and {*value} <= {"1", "32"} and all(map(_is_amount, value.values()))
            wanted = 'milliseconds per image by batch size, {"1": ..., "32": ...}'
        else:
            return f"has the cost {str(key)[:60]!r}: known are train_s, carried_bytes, parameters, ms_per_image, device"
        if not good:
            return f"has cost {key} {str(value)[:60]}: it must be {wanted}"
    return None


def _is_amount(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0
