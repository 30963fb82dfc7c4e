"""CL-CFA: the centroids are a running mean over the batches of all steps.

Bugarin et al., Unveiling the Anomalies in an Ever-Changing World, arXiv:2403.15463, section on CFA: at the start of a
step its batches, seen through the descriptor as it is then, join the mean; what earlier steps gave it stays as it was.
The authors' table has replay beside it. Kept between steps: one centroid per position and the number of batches.
"""

import torch

from bench.api import Detector, Plugin, Setup, Strategy
from methods import finetune

DEFAULT_DETECTOR = "cfa"
REQUIRES = "centroid"

Config = finetune.Config


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([RunningCentroid(setup.detector)])


class RunningCentroid(Plugin):
    """Weighs the centroids of every step by its number of batches."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.detector = detector
        self.centroid, self.batches = torch.empty(0), 0  # (D, positions)

    def before_training_epoch(self, strategy, **_):
        """Before the first epoch, mix the step's centroids, just computed, into the running ones; train on those."""
        if strategy.clock.train_exp_epochs > 0:
            return
        if self.batches:
            self.detector.merge_centroid(self.centroid, self.batches)
        self.centroid, self.batches = self.detector.centroid.clone(), self.detector.batches

    def state_dict(self) -> dict:
        return {"centroid": self.centroid, "batches": self.batches}

    def load_state_dict(self, state: dict) -> None:
        self.centroid, self.batches = state["centroid"], state["batches"]
