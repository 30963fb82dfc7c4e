"""Whether a detector can take a backbone: asked of its `build`, before any weights are fetched."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from bench.schema.request import BackboneSpec
from bench.training.backbone import BackboneUnfit, reductions_of
from bench.training.setup import Setup
from bench.training.tokens import blocks_of, is_transformer


class _Answered(Exception):  # noqa: N818 - nothing is wrong
    """The backbone offers what was asked for; the rest of the detector need not be built."""


@dataclass(frozen=True)
class Inquiry(Setup):
    """A setup that says whether its backbone offers what the detector asks for, without making it."""

    def features(self, *strides: int):
        reductions_of(self._backbone(), strides)
        raise _Answered

    def tokens(self, count: int, *, blocks: Sequence[int] | None = None, norm: bool = False):
        if is_transformer(self._backbone()):
            blocks_of(self._backbone(), count, blocks)
        raise _Answered

    def embedder(self):
        raise _Answered


def unfit(detector: ModuleType, config, image_size: int, backbone: BackboneSpec | None) -> str:
    """Why `detector` cannot take `backbone`, in one sentence; empty where it can.

    Raises:
        BadInput: for a backbone that does not exist, or a configuration that the detector refuses.
    """
    if backbone is None:
        return ""
    try:
        detector.build(config, Inquiry(image_size, 0, "cpu", backbone))
    except _Answered:
        return ""
    except BackboneUnfit as reason:
        return str(reason)
    return ""
