"""The record of a cell: one method × detector × scenario × seed, one JSON file; checked, read, written, asked."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
from annotated_types import Ge, Le
from typing_extensions import TypedDict

from bench.errors import BadInput
from bench.schema import cell_json as notation
from bench.schema.cell_json import plain
from bench.schema.disk import replace
from bench.schema.record_numbers import check_lists, check_matrices
from bench.schema.spec import FieldMapping, Natural, Spec, adapter, cell_path, first_fault, key_of

SCHEMA = 1
TIMES = ("train_s", "train_cpu_s", "eval_s", "eval_cpu_s", "extra_s", "others_share")  # of `Cost`, per step
PER_STEP = (*TIMES, "epochs", "train_images", "optimizer_steps", "eval_images", "carried_bytes")  # of `Cost`
FEATURES = ("feature_hits", "feature_misses")  # of `Cost`, with --feature-cache
DEVICE_PEAK = "device_peak_bytes"  # of `Cost`, on an accelerator
MICRO_BATCH = "micro_batch"  # of `Cost`, with --auto-batch

# Lists have one number per step; null in the file, NaN in memory, `—` in tables: not measured, never 0.
Numbers = list[float | None]
Shares = list[Annotated[float, Ge(0), Le(1)] | None]
Amount = Annotated[float, Ge(0)]
Amounts = list[Amount | None]
Status = Literal["ok", "partial", "failed", "skipped"]
Capability = Literal["reads_ahead", "task_oracle", "labels", "unlimited_memory"]
OPEN = {"extra": "allow"}  # further keys may stand beside those that are known


class Threshold(TypedDict, total=False):
    """What a threshold does to the test images of all classes seen that lets 5 % of normal images be rejected.

    It is set after each step on the normal images held out of training of all classes seen. Without hold-out there are
    no such numbers; cells of before it set a threshold on images that had been trained on: not comparable.
    """

    value: Numbers
    f1: Shares
    precision: Shares  # share of the rejected that are anomalous; absent from files of before it was kept, as `recall`
    recall: Shares  # share of the anomalous that are rejected
    false_alarm: Shares  # share of normal test images above it
    # likewise with the threshold of the step that each image is routed to, where the method routes
    routed_f1: Shares
    routed_precision: Shares
    routed_recall: Shares
    routed_false_alarm: Shares
    routed_calibration_error: Shares  # mean over classes of how far the false alarms lie from 5 %
    __pydantic_config__ = OPEN


class Gpu(TypedDict):
    """Peaks over the run, from the allocator; utilisation and energy where NVML tells."""

    allocated_bytes: Amount
    reserved_bytes: Amount
    utilisation: float | None  # mean, 0..1
    energy_j: float | None


class Cost(TypedDict):
    """What the cell cost. The lists have one number per step."""

    train_s: Amounts  # wall seconds from taking its state back to handing it over, the method's own work included
    train_cpu_s: NotRequired[Amounts]  # seconds that the processor spent on it: cells side by side do not change them
    eval_s: NotRequired[Amounts]
    eval_cpu_s: NotRequired[Amounts]  # seconds that the processor spent on judging the test images for the first time
    extra_s: NotRequired[Amounts]  # the part of train_s spent in the method's own callbacks
    epochs: NotRequired[Amounts]  # passes over the images of the step that the method told of
    train_images: NotRequired[Amounts]  # images that the loss saw, repeats counted
    optimizer_steps: NotRequired[Amounts]  # updates of weights, the method's own networks included
    eval_images: NotRequired[Amounts]
    carried_bytes: NotRequired[Amounts]  # kept from this step to the next, beyond the detector's weights
    peak_rss_bytes: Amount | None
    parameters: Amount | None
    trainable_parameters: Amount | None
    detector_bytes: Amount | None
    ms_per_image: dict[str, Amount | None]  # batch size ("1", "32") -> milliseconds per image, after warm-up
    gpu: Gpu | None  # None on a CPU
    # with --feature-cache only: images of which a frozen network's features were found, and were computed. Neither the
    # seconds nor the energy of such a cell are those of its method: tables leave them out.
    feature_hits: NotRequired[Amounts]
    feature_misses: NotRequired[Amounts]
    device_peak_bytes: NotRequired[Amounts]  # on an accelerator: most bytes that tensors of the step held there
    micro_batch: NotRequired[Amounts]  # with --auto-batch: most images that the memory had to hold a graph of
    # of all processor packages since the cell's process began, by RAPL, whatever else ran on them; null: not readable
    cpu_energy_j: NotRequired[float | None]
    # of the machine's processors, the share (0..1) that others used during the step: wall seconds are then disturbed
    others_share: NotRequired[Amounts]
    __pydantic_config__ = OPEN


class Environment(TypedDict, total=False):
    """Where it ran."""

    device: str  # "cpu" or the GPU's name
    cpu: str
    cores: int | None
    threads: int
    python: str
    platform: str
    torch: str
    versions: dict[str, str | None]
    bench: str
    commit: str | None
    deterministic: bool
    started: str  # ISO 8601, UTC
    finished: str
    __pydantic_config__ = OPEN


class Stored(TypedDict):
    """What lies beside the cell file in `seed-<k>.scores.npz`."""

    maps: bool  # anomaly maps too: the pixel metrics are then those of the maps as quantised to 16 bits
    bytes: Natural
    sha256: NotRequired[str]  # of the file


class Wall(TypedDict):
    """What stood between the method and what it must not know."""

    confined: bool  # each step in a process of its own, which the kernel keeps from the files
    closed: list[str]  # to that process, in words
    refused: NotRequired[list[str]]  # what it tried nevertheless, in words: then the cell has failed


class Code(TypedDict):
    """Of what source the numbers are: SHA-256 of each plugin with the files that it imports, version of the rest."""

    method: str
    detector: str
    scenario: str
    bench: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Record(FieldMapping):
    """One result. Failed and skipped cells carry what there was: empty lists where nothing was measured."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - a name that pydantic reads
    OPTIONAL = frozenset(("tuned_on", "stored", "wall", "code", "notes", "audited", "unmasked", "data", "checksum"))

    schema: int
    key: str  # key_of(spec)
    spec: Spec
    capabilities: list[Capability]  # what the method declares beyond the rules
    tuned_on: list[str] | None = None  # on what settings in use were tuned, as `TUNED_ON` of method and detector tells
    status: Status
    reason: str  # traceback of a failed cell, sentence of a skipped one, else ""
    # metric -> R: rows = after step t, columns = classes; NaN = not evaluated (in the file null, or [] for a whole
    # row). Beside the metrics there may be "raw_error" (`Detector.raw_error`).
    matrices: dict[str, list[Numbers]]
    pooled: dict[str, Numbers]  # metric -> per step, all classes seen in one ranking
    threshold: Threshold
    unmasked: list[str] | None = None  # classes of which nobody knows where the defects are: no pixel metrics
    routing_accuracy: Shares | None  # per step, share of test images sent to the right step; None: does not route
    stored: Stored | None = None
    wall: Wall | None = None  # absent: not confined; self-reported where the scores are from elsewhere
    audited: bool | None = None
    code: Code | None = None  # absent: not recorded
    data: list[str] | None = None  # what was odd about its images: defects that vanish at its size, leaks, depths
    cost: Cost
    notes: dict[str, Numbers] | None = None  # what plugins report and how true memories are, per step
    environment: Environment
    checksum: str | None = None  # SHA-256 of the file above it; absent from files of before it was written

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Record":
        """The record that `values` describe, as they are; `write` checks them."""
        if isinstance(values, Record):
            return values
        spec = values["spec"]
        given = {"schema": SCHEMA, **values, "spec": spec if isinstance(spec, Spec) else Spec.of(spec)}
        given["key"] = given["spec"].key
        return Record(**given)

    @staticmethod
    def blank(spec: Mapping[str, Any], capabilities: Iterable[str], status: Status, reason: str) -> "Record":
        """A cell in which nothing was measured: skipped, or dead before its first step."""
        cost = {name: [] for name in PER_STEP}
        cost |= dict.fromkeys(("peak_rss_bytes", "parameters", "trainable_parameters", "detector_bytes", "gpu"))
        return Record.of(
            {
                "spec": spec,
                "capabilities": list(capabilities),
                "status": status,
                "reason": reason,
                "matrices": {},
                "pooled": {},
                "threshold": {"value": [], "f1": [], "precision": [], "recall": [], "false_alarm": []},
                "routing_accuracy": None,
                "cost": cost | {"ms_per_image": {}},
                "environment": {},
            }
        )

    @staticmethod
    def read(path: Path) -> "Record":
        """The record in a file, null as NaN in its numbers.

        Raises:
            BadInput: for a missing, corrupt or foreign file, and for one that holds what cannot be measured.
        """
        try:
            return _checked(Path(path).read_bytes())
        except OSError as error:
            raise BadInput(
                f"{path} cannot be read ({error.strerror}): check the path, `bench show` takes a cell file"
            ) from error
        except ValueError as error:
            raise BadInput(f"{path} is not a cell file ({error}): delete it, or run again with --redo all") from error

    def write(self, path: Path) -> None:
        """Replace the file in one move, so that a kill leaves the old one or the new one, never a half.

        A finished result of another key is never replaced: other data, or another version, under the same name.

        Raises:
            BadInput: where there is one, where the file cannot be saved (disk full, read-only folder), and for numbers
                that cannot be; the old file is then intact.
        """
        text = notation.sealed(notation.json_text(dataclasses.replace(self, checksum=None)))
        try:
            _checked(text.encode())
        except ValueError as error:
            raise BadInput(f"{path} was not saved: its record does not hold together ({error}).") from error
        if path.is_file() and (other := Record.differences(path, self.spec)):
            raise BadInput(kept_from(path, other))
        replace(path, text)

    @staticmethod
    def differences(path: Path, spec: Mapping[str, Any]) -> list[str]:
        """In what the finished cell in `path` differs from `spec`, by name; none where it may give way to it: it is not
        finished, no cell, of the same spec, or the same run measured by an older rule."""
        try:
            old = Record.read(path)
        except BadInput:
            return []
        other = [name for name in old.spec.keys() | spec.keys() if old.spec.get(name) != plain(spec.get(name))]
        older = other == ["metric_version"] and old.spec.metric_version < spec["metric_version"]
        return [] if older or old.status != "ok" else sorted(other)

    def path(self, root: Path) -> Path:
        """Where it belongs below the results folder `root`."""
        return cell_path(root, self.spec)

    @property
    def learned_at(self) -> np.ndarray:
        """Step at which each class arrives, (C,)."""
        return np.array(self.spec.learned_at)

    @property
    def steps_done(self) -> int:
        """Steps that the cell has been through; not every one need have been evaluated."""
        return len(self.cost["train_s"])

    def final(self, metric: str) -> dict[str, float]:
        """{class: score after the last step}; NaN where the metric was not measured."""
        matrix = self.matrices.get(metric)
        return dict(zip(self.spec.classes, matrix[-1] if matrix else [math.nan] * len(self.spec.classes), strict=True))


def kept_from(path: Path, differences: Iterable[str]) -> str:
    """Why a finished cell is not replaced, in a sentence."""
    return (
        f"{path} holds a finished cell that differs in {', '.join(differences)}: keep it and give another folder "
        "with --results, or let it be replaced with --redo changed"
    )


def _checked(text: bytes) -> Record:
    """The record that a file's content describes; ValueError names the first thing that cannot be."""
    from pydantic import ValidationError

    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("it holds no keys")
        if content.get("schema") != SCHEMA:
            raise ValueError(f"schema {content.get('schema')}, this version reads {SCHEMA}")
        record = adapter(Record).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if record.key != key_of(content["spec"]):
        raise ValueError("its key does not belong to its spec, so it was edited by hand")
    # Numbers as they stand there: a whole number stays one.
    record = dataclasses.replace(record, **{n: notation.restored(n, content[n]) for n in record if n != "spec"})
    check_matrices(record)
    check_lists(record)
    if record.checksum is not None and not notation.is_whole(text):
        raise ValueError("its checksum is another, so it was damaged or edited by hand")
    return record
