"""What a plugin is built with, the same for every method and detector of a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.errors import BadInput
from bench.schema.request import BackboneSpec
from bench.training.backbone import Embedder, Features, Recall
from bench.training.detector import Detector
from bench.training.plugin import Plugin
from bench.training.strategy import Strategy
from bench.training.tokens import MapTokens, Tokens, tokens


@dataclass(frozen=True)
class Setup:
    """What the run fixes for every method alike."""

    image_size: int  # px, square
    seed: int
    device: str = "cpu"
    backbone: BackboneSpec | None = None
    detector: Detector | None = None  # for a method's `build`
    fresh: Callable[[int], Detector] | None = (
        None  # makes the untrained detector that a run of a given seed starts with
    )
    recall: Recall | None = None  # what the frozen backbone asks before it computes; None: nothing

    def features(self, *strides: int) -> Features:
        """Return the run's frozen backbone as feature maps at `strides`, e.g. `setup.features(4, 8, 16)`."""
        return Features(self._backbone(), strides, self.recall)

    def tokens(self, count: int, *, blocks: Sequence[int] | None = None, norm: bool = False) -> Tokens | MapTokens:
        """Return the run's frozen backbone as token sequences: `count` layers of a transformer, one of any other.

        `blocks` chooses the layers instead (from 0, or below 0 from the end); `norm` sends them through the final norm.
        """
        return tokens(self._backbone(), count, self.recall, blocks=blocks, norm=norm)

    def embedder(self) -> Embedder:
        """Return the run's backbone with its weights as one embedding per image, to be trained."""
        return Embedder(self._backbone())

    def _backbone(self) -> BackboneSpec:
        if self.backbone is None:
            raise BadInput(
                "this detector asks for a backbone but declares none: write BACKBONE = 'wide_resnet50_2.tv_in1k', "
                "or another name of timm, at the top of its file."
            )
        return self.backbone

    def strategy(self, plugins: Sequence[Plugin] = ()) -> Strategy:
        """Return the run's detector under the training loop, with `plugins` in the order of their turn."""
        return Strategy(detector=self.detector, plugins=plugins, device=self.device)
