"""The detector DDAD: trains the U-Net, has the features adapted, and compares each image with its reconstruction."""

from collections.abc import Iterable

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import functional as F

from bench.api import Detector, Prediction, Setup, Student, smooth
from methods.detectors.ddad import adaptation, checkpoint
from methods.detectors.ddad.diffusion import Guided, trajectory_noise, unet


class Ddad(Detector):
    """U-Net, a feature network as it came (`frozen`) and the one adapted from it (`features`), and the ratio.

    Inside, images are (B, 3, s, s) in -1..1 at the resolution of the diffusion. `config` is a `ddad.Config`.
    """

    def __init__(self, config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.drop_last = config.drop_last
        self.side = config.resolution or setup.image_size
        self.unet = unet(config, self.side)
        if config.checkpoint:
            checkpoint.load(self.unet, config.checkpoint)
        if config.compile:
            self.unet.compile()
        self.guided = Guided(config.start, config.skip, config.eta, config.noised_one_step_more)
        self.frozen = setup.features(*config.strides)
        self.features = Student(self.frozen)
        self.features.load_state_dict(self.frozen.state_dict())
        self.average: EMAModel | None = None
        self.bf16 = config.precision == "bf16" or (config.precision == "auto" and setup.device != "cpu")
        self.register_buffer("seed", torch.tensor(setup.seed))  # of the noise that every test image gets
        self.register_buffer("ratio", torch.tensor(1.0))  # largest feature distance / largest pixel distance

    def optimizer(self) -> torch.optim.Optimizer:
        weights = list(self.unet.parameters())
        adam = torch.optim.Adam(weights, lr=self.config.lr, weight_decay=self.config.decay, fused=True)
        if self.config.ema:
            self.average = EMAModel(weights, decay=self.config.ema)
            adam.register_step_post_hook(lambda *_: self.average.step(weights))
        return adam

    def loss(self, image: Tensor) -> Tensor:
        """Squared error of the predicted noise: the mean over images of the sum over pixels."""
        clean = self.scaled(image)
        noise = torch.randn_like(clean)
        level = torch.randint(self.config.levels, (len(clean),), device=clean.device)
        with self.reduced():
            found = self._noise_in(self.guided.noised(clean, noise, level), level)
        return (noise - found.float()).square().sum() / len(clean)

    def response(self, image: Tensor) -> tuple[Tensor]:
        """The noise found in the images under the test images' noise, at the level where reconstruction begins."""
        level = self.guided.steps[0]
        return (self._noise_in(self.guided.noised(self.scaled(image), self._fixed_noise()[0], level), level),)

    def consolidate(self, images: Iterable[Tensor]) -> None:
        """Adapt the feature network to the reconstructions, then measure the ratio on images kept from that."""
        if self.average is not None:
            self.average.copy_to(self.unet.parameters())
            self.average = None
        mode = self.training
        self.eval()
        shown, kept = adaptation.split(images, self.config.held_out)
        adaptation.adapt(self, shown)
        self.ratio = self._ratio(*self._in_batches(self._distances, kept))
        self.train(mode)

    @torch.no_grad()
    def again(self, start: Tensor, target: Tensor, w: float, noise: Iterable[Tensor]) -> Tensor:
        """R(start, target; w): noise `start`, remove the noise again guided by `target`."""
        return self.guided(self._noise_in, start, target, w, noise)

    def predict(self, image: Tensor) -> Prediction:
        pixel, feature = self._distances(image)
        ratio = self.ratio if self.config.norm == "train" else self._ratio(pixel, feature)
        anomaly_map = smooth(feature + self.config.v * ratio * pixel, self.config.sigma)
        return Prediction(centre(anomaly_map, self.config.crop).amax((1, 2, 3)), anomaly_map)

    def reconstruct(self, image: Tensor) -> Tensor:
        """What `predict` compares (B, 3, H, W) with, in 0..1."""
        target = self.scaled(image)
        made = self.again(target, target, self.config.w, self._fixed_noise())
        return self.seen(made, image.shape[-1]).clamp(0, 1)

    def raw_error(self, image: Tensor) -> Tensor:
        """Mean absolute error (B,) of the reconstruction without guidance, in 0..1: how well the U-Net knows these."""
        target = self.scaled(image)
        return (self.again(target, target, 0.0, self._fixed_noise()) - target).abs().mean((1, 2, 3)) / 2

    def _distances(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel and feature distance between image and reconstruction, each (B, 1, H, W)."""
        target, size = self.scaled(image), image.shape[-1]
        made = self.again(target, target, self.config.w, self._fixed_noise())
        pixel = sized((made - target).abs().mean(1, keepdim=True), size)
        return pixel, self._feature_distance(self.seen(made, size), self.seen(target, size))

    def _feature_distance(self, made: Tensor, target: Tensor) -> Tensor:
        """Cosine distance of features averaged over 3 x 3 places, summed over strides: (B, 1, H, W); images in 0..1."""
        total = 0
        with torch.no_grad():
            pairs = zip(self.features(made).values(), self.features(target).values(), strict=True)
            for a, b in list(pairs)[self.config.unmapped :]:
                distance = 1 - F.cosine_similarity(F.avg_pool2d(a, 3, 1, 1), F.avg_pool2d(b, 3, 1, 1))
                total += F.interpolate(distance[:, None], made.shape[-2:], mode="bilinear", align_corners=True)
        return total

    @staticmethod
    def _ratio(pixel: Tensor, feature: Tensor) -> Tensor:
        return feature.amax() / pixel.amax().clamp_min(1e-12)

    def _in_batches(self, function, images: Tensor) -> list[Tensor]:
        parts = [function(self.floats(batch)) for batch in images.split(self.batch_size)]
        return [torch.cat(each) for each in zip(*parts, strict=True)]

    def floats(self, stored: Tensor) -> Tensor:
        """Stored bytes as images in 0..1 on the detector's device."""
        return stored.to(self.ratio.device).float() / 255

    def scaled(self, image: Tensor) -> Tensor:
        """Images in 0..1 as the diffusion sees them."""
        return sized(image, self.side, "area" if self.side < image.shape[-1] else "bilinear") * 2 - 1

    def seen(self, image: Tensor, side: int) -> Tensor:
        """Images of the diffusion as the feature networks see them: in 0..1, `side` px."""
        return sized(image / 2 + 0.5, side)

    def _fixed_noise(self) -> Tensor:
        shape = (self.guided.draws, 1, 3, self.side, self.side)
        return trajectory_noise(int(self.seed), shape).to(self.ratio.device)

    def _noise_in(self, noisy: Tensor, level: Tensor | int) -> Tensor:
        return self.unet(noisy.contiguous(memory_format=torch.channels_last), level).sample

    def reduced(self) -> torch.autocast:
        """Within, bf16 where it is wanted. Never around a prediction: it would depend on the size of its batch."""
        return torch.autocast(self.ratio.device.type, torch.bfloat16, enabled=self.bf16)


def centre(maps: Tensor, share: float) -> Tensor:
    """The middle of maps (B, C, H, W), `share` of each side."""
    height, width = (round(share * side) for side in maps.shape[-2:])
    top, left = (maps.shape[-2] - height) // 2, (maps.shape[-1] - width) // 2
    return maps[..., top : top + height, left : left + width]


def sized(image: Tensor, side: int, mode: str = "bilinear") -> Tensor:
    """(B, C, side, side), untouched where it is that already."""
    return image if image.shape[-1] == side else F.interpolate(image, (side, side), mode=mode)
