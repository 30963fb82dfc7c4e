"""What a run is asked for, and the cells that come of it: plain values that travel between processes, free of torch."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import BadInput
from bench.schema import config
from bench.schema.record import Code
from bench.schema.spec import Spec, key_of
from bench.schema.stream import Stream

TINY_BACKBONE = "test_resnet"  # timm's name
PROCEDURAL = Path(__file__).parents[1] / "weights" / "procedural_features.safetensors"  # its weights, the project's own
PROCEDURAL_PRIOR = Path(__file__).parents[1] / "weights" / "prior"  # the small latent diffusion model, likewise
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def prior_digest(folder: Path = PROCEDURAL_PRIOR) -> str:
    """SHA-256 of the files of the small latent diffusion model, one after another in the order of their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@dataclass(frozen=True)
class Weights:
    """Which weights a backbone really has: this goes into every cell file."""

    kind: str  # imagenet | procedural | random | path | none
    source: str = ""  # timm tag, or file name
    sha256: str = ""  # of the file, where there is one
    file: str = ""  # where to read it; not part of a result


@dataclass(frozen=True)
class BackboneSpec:
    """A timm architecture, its construction arguments, and its weights."""

    name: str
    weights: Weights
    arguments: dict = field(default_factory=dict)  # e.g. pad_type="same"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    seed: int = 0  # of random weights, so that they are the same for every detector of a run

    @property
    def construction(self) -> dict:
        """Its arguments, and its input normalisation where it is not ImageNet's."""
        if self.mean == IMAGENET_MEAN and self.std == IMAGENET_STD:
            return self.arguments
        own = {"mean": self.mean, "std": self.std}
        return self.arguments | {key: value[0] if len(set(value)) == 1 else list(value) for key, value in own.items()}


@dataclass(frozen=True)
class Request:
    """What to measure: every option that decides what a run is, or what it keeps."""

    methods: tuple[str, ...]
    detectors: tuple[str, ...] = ()  # empty: each method's default; ("all",): every one
    scenarios: tuple[str, ...] = ("synthetic/1x6",)
    seeds: tuple[int, ...] = (0,)
    orders: tuple[str, ...] = ("published",)
    size: str | None = None  # None: tiny where no data set is needed, paper elsewhere
    data: Path | None = None
    backbone: str | None = None  # NAME[:argument=value,...]
    weights: str | None = None  # imagenet | procedural | random | a safetensors file
    image_size: int | None = None
    device: str = "auto"  # auto, cpu, cuda, or another of PyTorch's
    overrides: dict = field(default_factory=dict)
    plugins: tuple[Path, ...] = ()
    cache: Path = Path(".cache")
    keep: bool = False  # the state after every step, for `bench figure`
    save_maps: bool = False  # anomaly maps beside the scores, for `bench score`
    feature_cache: float = 0.0  # GB of frozen networks' features that may be kept in `cache`; 0: none
    # Test all classes seen after every so many steps and after the last; 0: after the last only. A class is always
    # tested when it has been learned.
    eval_every: int = 1
    eval_ahead: bool = False  # test classes before they are learned, too
    holdout: float | None = None  # share of normal training images that set thresholds; None: the stream's
    precision: str = "float32"  # of detectors' networks; or bfloat16
    no_wall: bool = False  # the method in the bench's own process, for debugging; such rows never rank
    auto_batch: bool = False  # smaller parts of a batch, gradients added up, where it does not fit the memory
    outline: bool = False  # only to be looked at: neither the data nor the weights need be there

    def __post_init__(self):
        for name in ("methods", "detectors", "scenarios", "seeds", "orders", "plugins"):
            if not isinstance(given := getattr(self, name), tuple | list):
                raise BadInput(f"Request: {name}={given!r} is no tuple: write {name}=({given!r},).")

    def held_out(self, stream: Stream) -> float:
        """Share of the normal training images that set thresholds."""
        return stream.holdout if self.holdout is None else self.holdout

    def evaluated(self, stream: Stream) -> tuple[int, ...]:
        """(steps between two evaluations,), 0 where only the last step has one; () where every step has."""
        every, steps = self.eval_every, len(stream.steps)
        if steps == 1 or every == 1:
            return ()
        return (every if every < steps else 0,)

    def variant(self, owners: tuple[str, str], stream: Stream, default_size: str, *, has_backbone: bool) -> str:
        """What was changed from the stream's defaults, readable: it names the result folder."""
        parts = [config.variant(self.overrides, dict.fromkeys(owners))]
        parts += [f"image_size={self.image_size}"] if self.image_size not in (None, stream.image_size) else []
        parts += [f"eval={every or 'final'}" for every in self.evaluated(stream)]
        parts += ["eval_ahead"] if self.eval_ahead and len(stream.steps) > 1 else []
        parts += [f"holdout={self.held_out(stream)}"] if self.held_out(stream) != stream.holdout else []
        parts += [f"precision={self.precision}"] if self.precision != "float32" else []
        parts += ["auto_batch"] if self.auto_batch else []
        parts += ["no_wall"] if self.no_wall else []
        parts += [f"size={self.size}"] if self.size not in (None, default_size) else []
        if has_backbone:
            parts += [f"backbone={self.backbone.partition(':')[0]}"] if self.backbone else []
            parts += [f"weights={Path(self.weights).stem}"] if self.weights else []
        return ",".join(part for part in parts if part)


@dataclass(frozen=True)
class Cell:
    """One run: method × detector × scenario × seed. `spec` decides the numbers; the rest says where things are."""

    spec: Spec
    capabilities: tuple[str, ...]
    stream: Stream
    backbone: BackboneSpec | None
    request: Request
    skip: str = ""  # why this pair makes no sense; empty if it does
    tuned_on: tuple[str, ...] = ()  # what `TUNED_ON` of method and detector says of the configuration
    code: Code | None = None  # of what source method, detector and reader are
    images: Mapping[str, tuple[int, int]] | None = None  # {class: (training, test images)}, where that is known
    notes: tuple[str, ...] = ()  # what the folders were taken for, and what is odd about them

    @property
    def key(self) -> str:
        return key_of(self.spec)

    @property
    def resume_key(self) -> str:
        """Names what a checkpoint may be gone on from: the same spec and the same code."""
        return hashlib.sha256(f"{self.key} {sorted((self.code or {}).items())}".encode()).hexdigest()[:16]

    def evaluated_after(self, step: int) -> bool:
        """As `Spec.evaluated_after`."""
        return Spec.of(self.spec).evaluated_after(step)

    def tested_after(self, step: int) -> list[int]:
        """As `Spec.tested_after`."""
        return Spec.of(self.spec).tested_after(step)

    @property
    def name(self) -> str:
        spec = self.spec
        order = "" if spec["order"] == "published" else f" {spec['order']}"
        return f"{spec['scenario']}{order} {spec['method']}+{spec['detector']} seed {spec['seed']}"
