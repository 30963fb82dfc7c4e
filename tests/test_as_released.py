"""One switch does as a paper's released code, and what came later leaves the keys of earlier cells alone."""

import ast
import re
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from toy import IMAGES, Linear, strategy, train

from bench import registry
from bench.api import BadInput, Plugin, later
from bench.schema.config import configured_pair, parse, recorded, resolve
from methods import ddad as ddad_method
from methods import finetune, scale
from methods.detectors import ddad, inpaint

TOLD = [
    entry
    for kind in ("method", "detector")
    for entry in registry.found_entries(kind).values()
    if entry.declared["AS_RELEASED"]
]


@pytest.mark.parametrize("entry", TOLD, ids=lambda entry: entry.name)
def test_each_option_of_the_switch_is_one_that_the_default_has_otherwise(entry):
    module, told = entry.load(), entry.declared["AS_RELEASED"]
    released = {size: resolve(entry.name, module, size, {"as_released": True}) for size in ("tiny", "paper")}
    usual = {"tiny": module.Config.tiny(), "paper": module.Config()}
    for option, value in told.items():
        assert all(getattr(config, option) == value for config in released.values())
        assert any(getattr(config, option) != value for config in usual.values()), option
        assert f"`{option}" in ast.get_docstring(entry.tree) or entry.name == "ddad_s"
    assert replace(usual["paper"], **told) == released["paper"], "nothing else changes"


def test_the_four_systems_have_it():
    assert {"replaycad", "scale", "one_for_more", "ddad"} <= {entry.name for entry in TOLD}


@pytest.mark.parametrize("name", ["ddad", "one_for_more", "replaycad", "scale", "ucad"])
def test_a_system_names_the_option_that_takes_its_mechanism_away(name):
    method = registry.find_entry("method", name)
    detector = registry.find_entry("detector", registry.default_detector(method))
    paragraphs = "\n\n".join(ast.get_docstring(entry.tree) for entry in (method, detector)).split("\n\n")
    told = re.search(r"`--set (\w+\.\w+=\w+)`", next(text for text in paragraphs if text.startswith("Control")))
    parts = [(entry.name, entry.load()) for entry in (method, detector)]
    for size in ("tiny", "paper"):
        usual, control = (configured_pair(*parts, size, parse(given)) for given in ([], [told[1]]))
        options = [dict(item for config in pair for item in asdict(config).items()) for pair in (usual, control)]
        (option,) = [option for option in options[0] if options[0][option] != options[1][option]]
        assert f".{option}=" in told[1]


def test_a_method_as_released_takes_its_detector_along_and_what_is_given_besides_wins():
    parts = ("scale", scale), ("inpaint", inpaint)
    usual, released = (
        configured_pair(*parts, "paper", {}),
        configured_pair(*parts, "paper", {"scale": {"as_released": True}}),
    )
    assert [config.imagenet_range for config in usual] == [False, False]
    assert [config.imagenet_range for config in released] == [True, True]
    own = {"scale": {"as_released": True}, "inpaint": {"smoothing": "2d"}}
    assert configured_pair(*parts, "paper", own)[1] == replace(released[1], smoothing="2d")
    assert (
        configured_pair(*parts, "paper", {"scale": {"as_released": True}, "inpaint": {"as_released": False}})[1]
        == usual[1]
    )
    assert configured_pair(*parts, "paper", {"inpaint": {"as_released": True}}) == (usual[0], released[1])


def test_a_method_and_a_detector_of_one_name_have_one_switch():
    _, detector = configured_pair(
        ("ddad", ddad_method), ("ddad", ddad), "paper", {"ddad": {"as_released": True, "w": 2.0}}
    )
    assert (detector.crop, detector.w) == (0.875, 2.0)


def test_a_switch_that_says_nothing_is_refused():
    with pytest.raises(BadInput, match=r"finetune\.as_released: nothing is told of finetune"):
        resolve("finetune", finetune, "tiny", {"as_released": True})
    with pytest.raises(BadInput, match=r"scale\.as_released='yes' is neither true nor false"):
        resolve("scale", scale, "tiny", {"as_released": "yes"})


@dataclass(frozen=True)
class Grown:
    memory: int = 40
    order: str = later("drawn")

    @classmethod
    def tiny(cls):
        return cls(memory=4)


def test_an_option_that_came_later_stays_out_of_the_spec_at_its_default():
    module = SimpleNamespace(Config=Grown)
    assert recorded(resolve("grown", module, "tiny", {})) == {"memory": 4}
    assert recorded(resolve("grown", module, "tiny", {"order": "drawn"})) == {"memory": 4}
    assert recorded(resolve("grown", module, "tiny", {"order": "kept"})) == {"memory": 4, "order": "kept"}


def test_a_last_batch_that_is_not_full_is_left_out_where_a_detector_says_so():
    class Sizes(Plugin):
        def before_forward(self, strategy, **_):
            seen.append(len(strategy.mbatch.image))

    assert IMAGES % Linear.batch_size
    for dropped in (False, True):
        seen = []
        built = strategy(finetune, Linear, spies=[Sizes()])
        built.model.drop_last = dropped
        train(built, last=1)
        full = [size for size in seen if size == Linear.batch_size]
        assert len(full) == Linear.epochs * (IMAGES // Linear.batch_size)
        assert (seen == full) == dropped
    built.train_mb_size, seen = 2 * IMAGES, []
    train(built, first=1, last=2)
    assert seen == [IMAGES] * Linear.epochs, "a step of less than a batch is learned all the same"


def test_the_score_of_ddad_may_leave_the_border_out():
    from test_ddad import build, shaken

    whole, cropped = (shaken(build(crop=share)) for share in (1.0, 0.5))
    anomaly_map = torch.zeros(1, 1, 32, 32)
    anomaly_map[..., 2, 2], anomaly_map[..., 16, 16] = 3, 1
    for detector, score in ((whole, 3), (cropped, 1)):
        detector._distances = lambda image: (torch.zeros_like(anomaly_map), anomaly_map)
        detector.config = replace(detector.config, sigma=0.1)
        found = detector.predict(torch.rand(1, 3, 32, 32))
        assert found.score.item() == pytest.approx(score, rel=1e-3)
        assert found.map.amax().item() == pytest.approx(3, rel=1e-3)
    with pytest.raises(BadInput, match=r"ddad\.crop=1\.5 is no share"):
        ddad.Config(crop=1.5)


def test_inpaint_as_released_steps_once_for_each_masked_copy():
    torch.manual_seed(0)
    small = {"width": 4, "cells": (4, 8), "sigma": 1.5, "epochs": 2}
    usual, stepping = (
        inpaint.build(inpaint.Config(**small, step_per_copy=each), SimpleNamespace(image_size=32, seed=0))
        for each in (False, True)
    )
    given = {}
    for net in (usual, stepping):
        net.net.loss = lambda masked, whole, net=net: given.setdefault(net, (masked, whole)) and masked.sum()
        net.loss(torch.rand(4, 3, 32, 32) * 0.5 + 0.01)
    assert [len(given[net][0]) for net in (usual, stepping)] == [12, 4]
    assert (usual.epochs, stepping.epochs) == (2, 6), "as many updates as there are copies"
    masked = (given[stepping][0] == 0).all(1).float().mean((1, 2))
    assert ((masked - 1 / 3).abs() < 0.05).all()
