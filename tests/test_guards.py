"""The rules of measuring, each broken on purpose by a plugin, and caught by name."""

import pytest
import torch
from mini import cell, read

from bench.runner import run

HEAD = '''"""A cheat, written to be caught."""
import torch
from bench.api import Plugin, Setup, Strategy
from methods.finetune import Config

def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Cheat()])

class Cheat(Plugin):
    last = 0.0
'''

CHEATS = {
    "reads a test image while training": (
        """
    def before_eval_exp(self, strategy, **_):
        self.kept = strategy.experience.dataset
    def after_train_dataset_adaptation(self, strategy, **_):
        if getattr(self, "kept", None) is not None:
            strategy.rehearse(self.kept)
""",
        "LeakError: a test image was read",
    ),
    "reads a later step": (
        """
    def after_train_dataset_adaptation(self, strategy, **_):
        strategy.adapted_dataset = strategy.experience.origin_stream[-1].dataset
""",
        "LeakError: the stream of an experience was looked into",
    ),
    "reads an earlier step again instead of carrying it": (
        """
    def after_train_dataset_adaptation(self, strategy, **_):
        strategy.rehearse(strategy.experience.origin_stream[0].dataset)
""",
        "LeakError: the stream of an experience was looked into",
    ),
    "keeps the data set of a step for later": (
        """
    def after_train_dataset_adaptation(self, strategy, **_):
        if getattr(self, "kept", None) is not None:
            strategy.rehearse(self.kept)
        self.kept = strategy.experience.dataset
""",
        "LeakError: training images of step 0 were read",
    ),
    "uses the statistics of the test batch": (
        """
    def before_eval_forward(self, strategy, **_):
        strategy.model.train()
    def after_eval_forward(self, strategy, **_):
        strategy.model.eval()
""",
        "CanaryError",
    ),
    "scores by what it saw before": (
        """
    def after_eval_forward(self, strategy, **_):
        score, map, route = strategy.mb_output
        self.last = 0.5 * self.last + float(score.mean())
        strategy.mb_output = strategy.mb_output._replace(score=score + 10 * self.last * torch.rand(len(score)))
""",
        "CanaryError",
    ),
    "uses the class given by the order of the test stream": (
        """
    def after_eval_forward(self, strategy, **_):
        column = strategy.experience.current_experience
        strategy.mb_output = strategy.mb_output._replace(score=strategy.mb_output.score + column)
""",
        "LeakError: the class of the test images was asked for",
    ),
}


@pytest.mark.parametrize("name", CHEATS, ids=str)
def test_a_cheat_is_a_failed_row_with_the_rule_it_broke(name, stream, cache, tmp_path):
    code, caught = CHEATS[name]
    (tmp_path / "cheat.py").write_text(HEAD + code)
    plugins = (tmp_path / "cheat.py",)
    one = cell(stream, cache, "cheat", "autoencoder", overrides={"autoencoder": {"epochs": 1}}, plugins=plugins)
    run(one, tmp_path / "results")
    record = read(tmp_path / "results", one)
    assert record["status"] == "failed"
    assert caught in record["reason"], record["reason"]


def test_test_images_come_without_their_truth(stream, arrays):
    from bench.benchmark import benchmark

    bench, gate = benchmark(stream, arrays)
    gate.testing = True
    for experience in bench.test_stream:
        image, mask, label, category = experience.dataset[len(experience.dataset) - 1]
        assert image.shape == (3, 64, 64)
        assert (mask.any().item(), label, category) == (False, -1, -1)


def test_class_labels_reach_training_only_if_declared(stream, arrays):
    from bench.benchmark import benchmark

    for labels, wanted in ((False, -1), (True, 1)):
        bench, gate = benchmark(stream, arrays, labels=labels)
        gate.open_steps = range(3)
        assert bench.train_stream[1].dataset[0][3] == wanted
        assert torch.is_tensor(bench.train_stream[1].dataset[0][0])
