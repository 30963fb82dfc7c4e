"""`submission.yaml`: who submits what. Words, a seed and what it cost; no result is ever taken from it."""

from dataclasses import dataclass, field
from pathlib import Path

from bench import registry
from bench.errors import BadInput
from bench.exchange.submission import reading
from bench.exchange.submission.faults import fault_of_cost, fault_of_form
from bench.exchange.submission.reading import FORM
from bench.metrics.ranking import METRIC_VERSION
from bench.schema import stream as streams
from bench.schema.stream import Stream


@dataclass(frozen=True)
class Form:
    """A form that holds together."""

    folder: Path
    stream: Stream
    method: str
    detector: str
    author: str
    reference: str
    scenario: str
    order: str
    fingerprint: str
    capabilities: tuple[str, ...]
    seed: int
    size: str  # tiny or paper, as the scenario has it by default
    backbone: str | None = None
    weights: str = "none"
    tuned_on: tuple[str, ...] = ()  # on what its settings were tuned, where that is known
    cost: dict = field(default_factory=dict)

    def spec(self, fingerprint: str) -> dict:
        """The spec of its cell; `fingerprint` is the whole one, of which a form may give the beginning."""
        stream = self.stream
        return {
            "scenario": stream.name,
            "scenario_version": stream.version,
            "fingerprint": fingerprint,
            "order": stream.order,
            "classes": list(stream.classes),
            "steps": [list(step) for step in stream.steps],
            "image_size": stream.image_size,
            "method": self.method,
            "method_config": {},
            "detector": self.detector,
            "detector_config": {},
            "backbone": self.backbone,
            "backbone_arguments": {},
            "weights": {"kind": self.weights, "source": self.backbone or "", "sha256": None},
            "size": self.size,
            "seed": self.seed,
            "metric_version": METRIC_VERSION,
            "variant": "",
            "external": {"author": self.author, "reference": self.reference},
        }


def read_form(folder: Path, options) -> Form:
    """The form in `folder`.

    Raises:
        BadInput: for the first thing that is wrong with it.
    """
    path = folder / FORM
    content = reading.load(path)
    fault = fault_of_form(content)
    if fault:
        raise BadInput(f"{path} {fault}.")
    name, at, version = content["scenario"].partition("@")
    if not at:
        raise BadInput(f"{path} has the scenario {name!r} without its version: write for example {name}@1.")
    stream = streams.load_stream(options.scenario or content["scenario"])
    if (stream.name, str(stream.version)) != (name, version):
        raise BadInput(f"{path} is for {name}@{version}, and the stream given is {stream.name}@{stream.version}.")
    stream = streams.reorder(stream, content["order"])
    fault = fault_of_cost(content.get("cost", {}), len(stream.steps))
    if fault:
        raise BadInput(f"{path} {fault}.")
    size = registry.default_size(stream.reader, options.plugin)
    content |= {key: tuple(content.get(key, ())) for key in ("capabilities", "tuned_on")}
    return Form(folder, stream, size=size, **content)
