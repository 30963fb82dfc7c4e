"""EfficientAD's networks at a size for small images, and its statistics as buffers."""

from collections.abc import Mapping

from anomalib.models.image.efficient_ad.torch_model import AutoEncoder, Decoder, SmallPatchDescriptionNetwork
from torch import Tensor, nn
from torch.nn import functional as F

FULL = 256  # px that anomalib's auto-encoder needs


def narrow(network: SmallPatchDescriptionNetwork, width: int) -> None:
    """Give a patch description network `width` and 2 `width` channels; 128 is its own size and changes nothing."""
    if width == 128:
        return
    network.conv1 = nn.Conv2d(3, width, kernel_size=4)
    network.conv2 = nn.Conv2d(width, 2 * width, kernel_size=4)
    network.conv3 = nn.Conv2d(2 * width, 2 * width, kernel_size=3)
    network.conv4 = nn.Conv2d(2 * width, network.conv4.out_channels, kernel_size=4)


def for_small_images(autoencoder: AutoEncoder, size: int) -> None:
    """Let the auto-encoder take images of `size` px, from 64 up; at 256 px and more it stays as it is."""
    if size < FULL:
        autoencoder.encoder.enconv6 = nn.Conv2d(64, 64, kernel_size=size // 32)
        autoencoder.decoder = SmallDecoder(autoencoder.decoder.deconv8.out_channels, padding=False)


class SmallDecoder(Decoder):
    """anomalib's decoder, whose first map would have no pixels below 128 px: here it has one at least."""

    def forward(self, x: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Decode (B, 64, h, w) to (B, channels, H / 4 - 8, W / 4 - 8)."""
        side = image_size[0]
        for i, size in enumerate((side // 64 - 1, side // 32, side // 16 - 1, side // 8, side // 4 - 1, side // 2 - 1)):
            x = F.interpolate(x, size=max(1, size), mode="bilinear")
            x = F.relu(getattr(self, f"deconv{i + 1}")(x))
            x = getattr(self, f"dropout{i + 1}")(x)
        x = F.interpolate(x, size=-(-side // 4) - 8, mode="bilinear")
        return self.deconv8(F.relu(self.deconv7(x)))


class Statistics(nn.Module):
    """Named numbers that are measured, not learned: what anomalib keeps in a `ParameterDict`."""

    def __init__(self, values: Mapping[str, Tensor]):
        super().__init__()
        for name, value in values.items():
            self.register_buffer(name, value.detach().clone())

    def __getitem__(self, name: str) -> Tensor:
        return getattr(self, name)

    def items(self):
        return self._buffers.items()

    def values(self):
        return self._buffers.values()

    def update(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.register_buffer(name, value)
