"""The spec of a cell: everything that decides its numbers, typed, checked, and named by a key and a path."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from annotated_types import Ge, Gt, Lt, MinLen
from typing_extensions import TypedDict

from bench.errors import BadInput

HEX = re.compile(r"[0-9a-f]+")

Natural = Annotated[int, Ge(0)]
Positive = Annotated[int, Ge(1)]
Name = Annotated[str, MinLen(1)]


class FieldMapping(Mapping):
    """A dataclass that also reads like the JSON object that it is written as: fields that are absent are left out."""

    OPTIONAL: frozenset[str] = frozenset()  # fields whose None means: absent

    def __getitem__(self, name: str) -> Any:
        value = vars(self)[name]
        if value is None and name in self.OPTIONAL:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name, value in vars(self).items() if value is not None or name not in self.OPTIONAL)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __or__(self, other: Mapping) -> dict:
        return {**self, **other}

    def __ror__(self, other: Mapping) -> dict:
        return {**other, **self}


class WeightsOrigin(TypedDict):
    """Which pretrained weights the detector really had."""

    kind: Literal["imagenet", "procedural", "random", "path", "none"]
    source: str  # timm name, file name or the seed that drew them
    sha256: str | None  # of the weight file


class External(TypedDict):
    """Whose system gave the scores; nobody here saw it train."""

    author: str
    reference: str


class SourceDigests(TypedDict):
    """SHA-256 of the source of plugins from outside the project, by kind: other code is another cell."""

    method: NotRequired[str]
    detector: NotRequired[str]
    scenario: NotRequired[str]


@dataclass(frozen=True, eq=False, kw_only=True)
class Spec(FieldMapping):
    """Everything that decides the numbers; its hash is the cell's key."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - a name that pydantic reads
    OPTIONAL = frozenset(
        (
            *("external", "eval_every", "eval_ahead", "holdout", "method_prior", "detector_prior"),
            *("precision", "auto_batch", "plugin_code"),
        )
    )

    scenario: Name  # "synthetic/1x6" = <data set>/<stream>
    scenario_version: Positive  # of the stream's manifest
    fingerprint: str  # of the data: file list, contents, decoding
    order: str  # published | alphabetical | reversed | random:SEED
    classes: Annotated[list[Name], MinLen(1)]  # columns of R, in order of arrival
    steps: Annotated[list[list[Name]], MinLen(1)]  # classes that arrive together
    image_size: Positive  # px, of evaluation
    method: Name
    method_config: dict[str, Any]
    detector: Name
    detector_config: dict[str, Any]
    backbone: str | None  # timm name
    backbone_arguments: dict[str, Any]  # how it was constructed, e.g. pad_type
    weights: WeightsOrigin
    size: Literal["tiny", "paper"]
    seed: Natural
    metric_version: Natural
    variant: str  # "owner.option=value,..." for what the user changed, "" for the defaults; part of the file's path
    external: External | None = None  # of a submission
    # All classes seen are tested after every so many steps and after the last; 0: after the last only; absent: after
    # each. Those that a step brings are tested after it in any case.
    eval_every: Natural | None = None
    eval_ahead: bool | None = None  # classes are tested before they are learned, too: forward transfer
    # Share of the normal training images of each class that no method trains on: they set thresholds. Absent: none.
    holdout: Annotated[float, Gt(0), Lt(1)] | None = None
    method_prior: str | None = None  # sha256 of the project's own text-to-image model, where the method has it
    detector_prior: str | None = None  # likewise, where the detector has it
    precision: Literal["bfloat16"] | None = None  # inside the detector's networks; absent: float32
    # A batch that does not fit the memory is taken in parts (`Cost.micro_batch`), which may change the numbers.
    auto_batch: bool | None = None
    plugin_code: SourceDigests | None = None  # of what does not come with the project

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Spec":
        """The spec that `values` describe.

        Raises:
            BadInput: for a key that is missing or unknown, a value of another type or out of its range.
        """
        if isinstance(values, Spec):
            return values
        from pydantic import ValidationError

        try:
            return adapter(Spec).validate_json(json.dumps(dict(values)), strict=True)
        except ValidationError as error:
            raise BadInput(f"this is no spec of a cell: {first_fault(error)}.") from error

    @property
    def key(self) -> str:
        """First 16 hex digits of the SHA-256 of its canonical JSON (sorted keys, no spaces)."""
        return key_of(self)

    @property
    def learned_at(self) -> tuple[int, ...]:
        """For each class, the step (from 0) that brings it."""
        step_of = {name: step for step, names in enumerate(self.steps) for name in names}
        return tuple(step_of[name] for name in self.classes)

    def evaluated_after(self, step: int) -> bool:
        """Whether the test images of all classes seen are shown after `step` (from 0)."""
        every, done = 1 if self.eval_every is None else self.eval_every, step + 1
        return done == len(self.steps) or (every > 0 and done % every == 0)

    def tested_after(self, step: int) -> list[int]:
        """Columns of the classes whose test images are shown after `step` (from 0).

        All that were learned, where all are evaluated; those just learned in any case. With `eval_ahead` all that are
        yet to come beside all that were learned, and those of the next step in any case.
        """
        if self.evaluated_after(step):
            return [c for c, learned in enumerate(self.learned_at) if learned <= step or self.eval_ahead]
        brought = (step, step + 1) if self.eval_ahead else (step,)
        return [c for c, learned in enumerate(self.learned_at) if learned in brought]


def key_of(spec: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON (sorted keys, no spaces) of `spec`."""
    text = json.dumps(dict(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cell_path(root: Path, spec: Mapping[str, Any]) -> Path:
    """`root/<data set>/<stream>/<method>+<detector>[,owner.option=value...,HASH]/seed-<k>.json`.

    Class order and the author of external scores are options. Where anything was changed from what the project ships
    (options, order, a stream file or plugin of one's own), the last part is a hash of all of the spec but the seed and
    the version of the metrics: what is left to differ under one path is other data or another version of the project.
    """
    options = [spec["variant"]] if spec["variant"] else []
    if spec["order"] != "published":
        options.append(f"order={spec['order']}")
    if "external" in spec:
        options.append(f"external={spec['external']['author']}")
    system = f"{spec['method']}+{spec['detector']}"
    folder = re.sub(r"[^\w.,=+-]", "-", ",".join([system, *options]))
    if options or "plugin_code" in spec or spec["scenario"].startswith("custom/"):
        folder = f"{folder[:180]},{key_of({**spec, 'seed': 0, 'metric_version': 0})[:8]}"  # file systems stop at 255
    return Path(root, spec["scenario"], folder, f"seed-{spec['seed']}.json")


@cache
def adapter(kind: type):
    """Pydantic's checker of a type; made when something is first checked, because importing it takes a while."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def first_fault(error) -> str:
    """The first thing that pydantic found, in a line: where it is, what is wrong, what was given."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(map(str, fault["loc"])) or "the whole"
    given = "" if fault["type"] in ("missing", "json_invalid") else f", not {str(fault['input'])[:60]!r}"
    return f"{where}: {fault['msg'][0].lower()}{fault['msg'][1:]}{given}"
