"""The cell record, key by key: one method × detector × scenario × seed, one JSON file."""

import hashlib
import json
from typing import Literal, NotRequired, TypedDict

SCHEMA = 1
MAP_MAX = "map_max_image_auroc"  # a matrix beside those of the metrics: the maximum of the map as the image score
RAW_ERROR = "raw_error"  # a matrix beside those of the metrics: `Detector.raw_error`, lower is better
# Matrices R of a stream with hold-out: what the threshold of a class does that was set when the class was learned.
CLASS_FALSE_ALARM, CLASS_RECALL = "class_false_alarm", "class_recall"  # of its test images, after each step
CLASS_THRESHOLD, CLASS_SPREAD = "class_threshold", "class_spread"  # set anew after each step; deviation of the scores
CLASS_SHIFT = "class_threshold_shift"  # how far the threshold set anew lies from the first one, in first deviations
PER_STEP = ("train_s", "train_cpu_s", "eval_s", "extra_s", "train_images", "eval_images", "carried_bytes")  # of `Cost`
FEATURES = ("feature_hits", "feature_misses")  # of `Cost`, with --feature-cache
MICRO_BATCH = "micro_batch"  # of `Cost`, with --auto-batch

Numbers = list[float]  # one per step; null in the file, NaN in memory, `—` in tables: not measured, never 0
Status = Literal["ok", "partial", "failed", "skipped"]
Capability = Literal["reads_ahead", "task_oracle", "labels"]


class Weights(TypedDict):
    """Which pretrained weights the detector really had."""

    kind: Literal["imagenet", "procedural", "random", "path", "none"]
    source: str  # timm name, file name or the seed that drew them
    sha256: str | None  # of the weight file


class External(TypedDict):
    """Whose system gave the scores; nobody here saw it train."""

    author: str
    reference: str


class Spec(TypedDict):
    """Everything that decides the numbers; its hash is the cell's key."""

    scenario: str  # "synthetic/1x6" = <data set>/<stream>
    scenario_version: int  # of the stream's manifest
    fingerprint: str  # of the data: file list, contents, decoding
    order: str  # published | alphabetical | reversed | random:SEED
    classes: list[str]  # columns of R, in order of arrival
    steps: list[list[str]]  # classes that arrive together
    image_size: int  # px, of evaluation
    method: str
    method_config: dict
    detector: str
    detector_config: dict
    backbone: str | None  # timm name
    backbone_arguments: dict  # how it was constructed, e.g. pad_type
    weights: Weights
    size: Literal["tiny", "paper"]
    seed: int
    metric_version: int
    variant: str  # "option=value,..." for what the user changed, "" for the defaults; part of the file's path
    external: NotRequired[External]  # of a submission
    # Evaluated after every so many steps and after the last; 0: after the last only; absent: after each.
    eval_every: NotRequired[int]
    method_prior: NotRequired[str]  # sha256 of the project's own text-to-image model, where the method has it
    detector_prior: NotRequired[str]  # likewise, where the detector has it
    precision: NotRequired[Literal["bfloat16"]]  # inside the detector's networks; absent: float32
    # A batch that does not fit the memory is taken in parts (`Cost.micro_batch`), which may change the numbers.
    auto_batch: NotRequired[bool]
    # Share of the normal training images of each class that no method trains on: they set thresholds. Absent: none.
    holdout: NotRequired[float]
    # Classes are tested before they are learned, too, which gives forward transfer.
    eval_ahead: NotRequired[bool]


def key_of(spec: Spec) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON (sorted keys, no spaces) of `spec`."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Threshold(TypedDict):
    """What a threshold does to the test images of all classes seen that lets 5 % of normal images be rejected.

    It is set after each step on the normal images held out of training of all classes seen. Without hold-out there are
    no such numbers; cells of before it set a threshold on images that had been trained on: not comparable.
    """

    value: Numbers
    f1: Numbers
    precision: Numbers  # share of the rejected that are anomalous; absent from files of before it was kept, as `recall`
    recall: Numbers  # share of the anomalous that are rejected
    false_alarm: Numbers  # share of normal test images above it, 0..1
    # likewise with the threshold of the step that each image is routed to, where the method routes
    routed_f1: NotRequired[Numbers]
    routed_precision: NotRequired[Numbers]
    routed_recall: NotRequired[Numbers]
    routed_false_alarm: NotRequired[Numbers]
    routed_calibration_error: NotRequired[Numbers]  # mean over classes of how far the false alarms lie from 5 %


class Gpu(TypedDict):
    """Peaks over the run, from the allocator; utilisation and energy where NVML tells."""

    allocated_bytes: int
    reserved_bytes: int
    utilisation: float | None  # mean, 0..1
    energy_j: float | None


class Cost(TypedDict):
    """What the cell cost. The lists have one number per step."""

    train_s: Numbers  # wall seconds inside train, the method's own work included
    train_cpu_s: NotRequired[Numbers]  # seconds that the processor spent on it: cells side by side do not change them
    eval_s: Numbers
    extra_s: Numbers  # the part of train_s spent in the method's own callbacks
    train_images: Numbers  # images that the loss saw, repeats counted
    eval_images: Numbers
    carried_bytes: Numbers  # kept from this step to the next, beyond the detector's weights
    peak_rss_bytes: int | None
    parameters: int
    trainable_parameters: int
    detector_bytes: int
    ms_per_image: dict[str, float | None]  # batch size ("1", "32") -> milliseconds per image, after warm-up
    gpu: Gpu | None  # None on a CPU
    # with --feature-cache only: images of which a frozen network's features were found, and were computed. Neither the
    # seconds nor the energy of such a cell are those of its method: tables leave them out.
    feature_hits: NotRequired[Numbers]
    feature_misses: NotRequired[Numbers]
    micro_batch: NotRequired[Numbers]  # with --auto-batch: most images that the memory had to hold a graph of
    # of all processor packages since the cell's process began, by RAPL, whatever else ran on them; null: not readable
    cpu_energy_j: NotRequired[float | None]


class Environment(TypedDict):
    """Where it ran."""

    device: str  # "cpu" or the GPU's name
    cpu: str
    cores: int
    threads: int
    python: str
    platform: str
    torch: str
    versions: dict[str, str]
    bench: str
    commit: str
    deterministic: bool
    started: str  # ISO 8601, UTC
    finished: str


class Stored(TypedDict):
    """What lies beside the cell file in `seed-<k>.scores.npz`."""

    maps: bool  # anomaly maps too: the pixel metrics are then those of the maps as quantised to 16 bits
    bytes: int
    sha256: NotRequired[str]  # of the file; absent from older cells and from unfinished ones


class Cell(TypedDict):
    """One result file. Failed and skipped cells carry what there was: empty lists where nothing was measured."""

    schema: int
    key: str  # key_of(spec)
    spec: Spec
    capabilities: list[Capability]  # what the method declares beyond the rules
    tuned_on: NotRequired[list[str]]  # on what settings in use were tuned, as `TUNED_ON` of method and detector tells
    status: Status
    reason: str  # traceback of a failed cell, sentence of a skipped one, else ""
    # metric -> R: rows = after step t, columns = classes; NaN = not evaluated (in the file null, or [] for a whole row;
    # `bench.results.read` fills both). Beside the metrics there are "map_max_image_auroc", the image AUROC of the
    # maximum of each map (absent from files of before it was kept, and from submissions without maps), and "raw_error"
    # where the detector has one (`Detector.raw_error`): mean over normal test images, lower is better.
    matrices: dict[str, list[Numbers]]
    pooled: dict[str, Numbers]  # metric -> per step, all classes seen in one ranking
    threshold: Threshold
    routing_accuracy: Numbers | None  # per step, share of test images sent to the right step; None: does not route
    stored: NotRequired[Stored]
    audited: NotRequired[bool]  # `bench run --audit` gave the same scores with every step in a process of its own
    cost: Cost
    notes: NotRequired[
        dict[str, Numbers]
    ]  # what plugins report and how true memories are (bench.evaluation.replay_fidelity), per step
    environment: Environment
