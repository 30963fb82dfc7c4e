"""CL-PaDiM: one field of Gaussians for all classes, the running mean of every step's.

Bugarin et al., Unveiling the Anomalies in an Ever-Changing World, arXiv:2403.15463, section on PaDiM. The paper's
supplement averages the covariances, its code the inverse covariances. Kept between steps: one mean and one matrix per
position, whatever the number of steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import BadInput, Detector, Plugin, Setup, Strategy

DEFAULT_DETECTOR = "padim"
REQUIRES = "gaussian"
AVERAGES = ("covariance", "inverse")


@dataclass(frozen=True)
class Config:
    average: str = "covariance"  # as in the supplement; "inverse": of the inverse covariances, as in the authors' code

    def __post_init__(self):
        if self.average not in AVERAGES:
            raise BadInput(f"cl_padim.average={self.average!r} is none of {', '.join(AVERAGES)}.")

    @classmethod
    def tiny(cls) -> "Config":
        return cls()


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([RunningGaussian(config, setup.detector)])


class RunningGaussian(Plugin):
    """Means M <- (t M + M_t) / (t + 1) of the steps' means and of their covariances, each step weighing the same."""

    def __init__(self, config: Config, detector: Detector):
        super().__init__()
        self.config, self.detector = config, detector
        self.steps = 0
        self.mean = self.matrix = torch.empty(0)  # (D, positions), (positions, D, D): covariance or its inverse

    def after_training_exp(self, strategy, **_):
        """Mix the step's Gaussians, which the detector has just fitted, into the running ones; predict with those."""
        fitted = self.detector.net.gaussian
        self.mean = self._mix(self.mean, fitted.mean)
        if not self.steps:
            self.matrix = torch.empty_like(fitted.inv_covariance)
        # Some positions at a time: the matrices of all are gigabytes at paper size.
        for running, inverse in zip(self.matrix.split(64), fitted.inv_covariance.split(64), strict=True):
            running.copy_(self._mix(running, self._either(inverse)))
            inverse.copy_(self._either(running))
        self.steps += 1
        fitted.mean = self.mean.clone()

    def _mix(self, running: Tensor, new: Tensor) -> Tensor:
        return (self.steps * running + new) / (self.steps + 1) if self.steps else new.clone()

    def _either(self, matrix: Tensor) -> Tensor:
        """Turn inverse covariances into what is averaged, or back."""
        return torch.linalg.inv(matrix) if self.config.average == "covariance" else matrix

    def state_dict(self) -> dict:
        return {"steps": self.steps, "mean": self.mean, "matrix": self.matrix}

    def load_state_dict(self, state: dict) -> None:
        self.steps, self.mean, self.matrix = state["steps"], state["mean"], state["matrix"]
