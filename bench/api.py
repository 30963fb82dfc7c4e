"""All that a method or detector file needs: the one module of the bench that it imports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from avalanche.core import BaseSGDPlugin
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from bench.errors import BadInput
from bench.schema.request import PROCEDURAL_PRIOR, BackboneSpec
from bench.training.backbone import Embedder, Features, Recall, Student
from bench.training.batch import Batch, Prediction
from bench.training.detector import Detector, clip, freeze, trainable
from bench.training.device import kept_draws
from bench.training.experiences import as_float, normal_images
from bench.training.strategy import Images, Strategy
from bench.training.tokens import MapTokens, Tokens, tokens

__all__ = [
    "PROCEDURAL_PRIOR",
    "BadInput",
    "Batch",
    "Detector",
    "Embedder",
    "Features",
    "Images",
    "Plugin",
    "Prediction",
    "Setup",
    "Strategy",
    "Student",
    "as_float",
    "clip",
    "freeze",
    "kept_draws",
    "normal_images",
    "smooth",
    "trainable",
]


class Plugin(BaseSGDPlugin, supports_distributed=False):
    """What is done about forgetting. Its `state_dict` is all that it carries from one step to the next.

    The state serves resume and is what the column `carried` counts: tensors, arrays, numbers, strings, lists, dicts.
    """

    def state_dict(self) -> dict:
        """Return everything carried to the next step."""
        return {}

    def exhibits(self, images: Tensor, step: int) -> dict[str, Tensor]:
        """Return pictures (n, 3, h, w) of what the memory makes of training images (n, 3, H, W), one column each.

        The images are of a class that was learned at `step`. For `bench figure`; a method without pictures has none.
        """
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Take back what `state_dict` returned."""
        if state:
            raise KeyError(f"{type(self).__name__} saves a state but does not load it")

    def report(self) -> dict[str, float]:
        """Return numbers worth noting after a step, by name; they join the cell's `notes`."""
        return {}

    def recall(self) -> dict[int, tuple[Tensor, Tensor | None]]:
        """Return what a memory that is not exact would replay now, for the bench to measure against the originals.

        Class (as in `Batch.category`; -1 for none in particular) -> pictures (n, 3, H, W) uint8 and which of the
        class's training images, in the order of its step, they stand for (n,); None where they stand for no image.
        """
        return {}


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


def smooth(anomaly_map: Tensor, sigma: float) -> Tensor:
    """Blur maps (B, 1, H, W) with a Gaussian of `sigma` px, cut at four sigma as in anomalib."""
    kernel = min(2 * int(4 * sigma + 0.5) + 1, 2 * min(anomaly_map.shape[-2:]) - 1)  # the border is reflected
    return gaussian_blur(anomaly_map, [kernel, kernel], [sigma, sigma])
