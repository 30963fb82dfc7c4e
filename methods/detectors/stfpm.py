"""STFPM: a student learns a frozen teacher's feature pyramid on normal images; where they differ is anomalous.

Wang et al., Student-Teacher Feature Pyramid Matching for Anomaly Detection, arXiv:2103.04257 (anomalib's model).
"""

from dataclasses import dataclass

import torch
from anomalib.models.image.stfpm.loss import STFPMLoss
from anomalib.models.image.stfpm.torch_model import STFPMModel
from torch import Tensor, nn

from bench.api import Detector, Prediction, Setup, Student, trainable

TRAITS = ("gradient", "bfloat16")
BACKBONE = "resnet18"


@dataclass(frozen=True)
class Config:
    epochs: int = 100
    lr: float = 0.4  # SGD, momentum 0.9; the loss adds up over the images of a batch
    weight_decay: float = 1e-4  # anomalib has 1e-3
    batch_size: int = 32
    strides: tuple[int, ...] = (4, 8, 16)  # layer1 to layer3 of a ResNet

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=12, lr=0.2, batch_size=4)


def build(config: Config, setup: Setup) -> Detector:
    return Stfpm(config, setup)


class Stfpm(Detector):
    """Teacher (frozen) and student of one architecture; the layers' distances are multiplied (equation 3)."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.loss_adds_up = True
        teacher = setup.features(*config.strides)
        with teacher.inside("anomalib.models.image.stfpm.torch_model"):
            self.net = STFPMModel(teacher.layers)
        self.net.student_model = Student(teacher)
        self.distance = STFPMLoss()

    def optimizer(self) -> torch.optim.Optimizer:
        config = self.config
        return torch.optim.SGD(trainable(self), lr=config.lr, momentum=0.9, weight_decay=config.weight_decay)

    def networks(self) -> list[nn.Module]:
        return [self.net.teacher_model, self.net.student_model]

    def response(self, image: Tensor) -> list[Tensor]:
        return list(self.net.student_model(image).values())

    def loss(self, image: Tensor) -> Tensor:
        return self.distance(self.net.teacher_model(image), self.net.student_model(image))

    def predict(self, image: Tensor) -> Prediction:
        found = self.net(image)
        return Prediction(found.pred_score.flatten(), found.anomaly_map)
