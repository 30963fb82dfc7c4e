"""EfficientAD: a student and an auto-encoder imitate a small frozen network; disagreement is anomalous (anomalib's).

Batzner et al., EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies, arXiv:2303.14535.
The paper's teacher is distilled from ImageNet: `teacher` takes anomalib's `pretrained_teacher_small.pth`, out of
https://github.com/open-edge-platform/anomalib/releases/download/efficientad_pretrained_weights/efficientad_pretrained_weights.zip
(`medium` too). With "random", the tiny size's choice, it is an untrained network of the same layers.
The paper's penalty keeps the student from imitating the teacher on ImageNet: name a folder of outside images in
`penalty_images`; without one there is no penalty.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel, EfficientAdModelSize, reduce_tensor_elems
from torch import Tensor

from bench.api import BadInput, Detector, Prediction, Setup, freeze
from methods.detectors.efficientad.outside import OutsideImages
from methods.detectors.efficientad.small import Statistics, for_small_images, narrow

TRAITS = ("gradient",)


@dataclass(frozen=True)
class Config:
    epochs: int = 290  # about the paper's 70 000 batches on a class of 240 images
    batch_size: int = 1  # the paper's; anomalib knows no other
    lr: float = 1e-4  # Adam, weight decay 1e-5, divided by 10 for the last 5 % of the batches
    model: str = "small"  # or "medium"
    width: int = 128  # channels of the small networks' first layer
    channels: int = 384  # of the teacher's output
    teacher: str = ""  # file of the teacher's weights, or "random"
    penalty_images: str = ""  # folder of images that are of no class, e.g. ImageNet's
    held_out: float = 0.1  # share of the training images that only the maps' quantiles are taken from

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=4, batch_size=8, lr=1e-3, width=32, channels=64, teacher="random")


def build(config: Config, setup: Setup) -> Detector:
    if setup.image_size < 64:
        raise BadInput(f"efficientad needs images of 64 px or more, not {setup.image_size}; raise --image-size.")
    return EfficientAd(config, setup)


class EfficientAd(Detector):
    """Teacher (frozen), student and auto-encoder; the two maps of disagreement are averaged on one scale."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.net = EfficientAdModel(config.channels, EfficientAdModelSize(config.model))
        if config.model == "small":
            narrow(self.net.teacher, config.width)
            narrow(self.net.student, config.width)
        for_small_images(self.net.ae, setup.image_size)
        _load_teacher(self.net.teacher, config.teacher)
        freeze(self.net.teacher)
        # anomalib keeps them as parameters, which an optimizer would take for weights
        self.net.mean_std, self.net.quantiles = Statistics(self.net.mean_std), Statistics(self.net.quantiles)
        self.outside = OutsideImages(config.penalty_images, setup.image_size) if config.penalty_images else None

    @torch.no_grad()
    def prepare(self, images: Iterable[Tensor]) -> None:
        """Take mean and deviation of the teacher's channels, at the first step only: they define what is imitated."""
        if self.outside:
            self.outside.restart()
        if self.net.is_set(self.net.mean_std):
            return
        count = total = squares = 0
        for image in images:
            output = self.net.teacher(image)
            count += output[:, 0].numel()
            total += output.sum((0, 2, 3), keepdim=True)
            squares += output.square().sum((0, 2, 3), keepdim=True)
        mean = total / count
        self.net.mean_std.update({"mean": mean, "std": (squares / count - mean.square()).sqrt()})

    def optimizer(self) -> torch.optim.Optimizer:
        learning = [*self.net.student.parameters(), *self.net.ae.parameters()]
        return torch.optim.Adam(learning, lr=self.config.lr, weight_decay=1e-5)

    def scheduler(self, optimizer, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.StepLR(optimizer, max(1, int(0.95 * iterations)), gamma=0.1)

    def response(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.net.student(image), self.net.ae(image, image.shape[-2:])

    def loss(self, image: Tensor) -> Tensor:
        image = image[~self._held_out(image)]
        if not len(image):
            return image.new_zeros(())
        _, distance = self.net.compute_student_teacher_distance(image)
        distance = reduce_tensor_elems(distance)
        hard = distance[distance >= torch.quantile(distance, 0.999)].mean()
        penalty = self._imitated(self.outside(len(image)).to(image)) if self.outside else 0
        changed = self.net.choose_random_aug_image(image)
        with torch.no_grad():
            wanted = self.net._normalize_teacher(self.net.teacher(changed))
        restored = self.net.ae(changed, image.shape[-2:])
        copied = self.net.student(changed)[:, self.config.channels :]
        return hard + penalty + (wanted - restored).square().mean() + (restored - copied).square().mean()

    def _imitated(self, outside: Tensor) -> Tensor:
        return self.net.student(outside)[:, : self.config.channels].square().mean()

    def _held_out(self, image: Tensor) -> Tensor:
        """Whether each of (B, 3, H, W) is held out: by its pixels, so that nothing need be remembered of it."""
        if not self.config.held_out:
            return torch.zeros(len(image), dtype=torch.bool, device=image.device)
        levels = (image * 255).round().long().flatten(1).sum(1)
        return levels % round(1 / self.config.held_out) == 0

    @torch.no_grad()
    def consolidate(self, images: Iterable[Tensor]) -> None:
        """Put both maps on one scale, by their quantiles on the images held out (all, if chance held out none)."""
        images = list(images)
        held = [image[self._held_out(image)] for image in images]
        learning, _ = self.training, self.eval()
        maps = [self.net.get_maps(image) for image in (held if any(map(len, held)) else images) if len(image)]
        self.train(learning)
        for name, parts in zip(("st", "ae"), zip(*maps, strict=True), strict=True):
            values = reduce_tensor_elems(torch.cat(parts))
            for bound, share in (("qa", 0.9), ("qb", 0.995)):
                self.net.quantiles.update({f"{bound}_{name}": torch.quantile(values, share)})

    def predict(self, image: Tensor) -> Prediction:
        student, autoencoder = self.net.get_maps(image, normalize=True)
        anomaly_map = 0.5 * student + 0.5 * autoencoder
        return Prediction(anomaly_map.amax((1, 2, 3)), anomaly_map)


def _load_teacher(teacher: torch.nn.Module, source: str) -> None:
    if source == "random":
        return
    if not Path(source).is_file():
        raise BadInput(
            f"efficientad has no teacher weights at {source!r}; give anomalib's pretrained_teacher_small.pth by "
            "--set efficientad.teacher=FILE, or an untrained teacher by --set efficientad.teacher=random."
        )
    try:
        teacher.load_state_dict(torch.load(source, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise BadInput(f"efficientad.teacher={source!r} does not fit the teacher: {error}.") from error
