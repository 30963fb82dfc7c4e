"""`bench check`: the contract suite for anybody's file, a row per rule."""

import re

import pytest
from command import ROOT

from bench.contract.rules import RULES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def example() -> str:
    return re.search(
        r"```python\n(\"\"\"Thumbnails.*?)```", (ROOT / "docs" / "add-a-method.md").read_text(), re.DOTALL
    )[1]


def test_the_example_of_the_docs_keeps_the_contract(bench, tmp_path, example):
    (tmp_path / "thumbnails.py").write_text(example)
    code, out = bench("check", "thumbnails.py")
    assert code == 0 and "nothing to mend." in out, out
    assert out.count("  ok    ") == len(RULES["method"])


def test_the_detector_of_the_docs_keeps_the_contract(bench, tmp_path):
    text = (ROOT / "docs" / "add-a-detector.md").read_text()
    (tmp_path / "mean_image.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    code, out = bench("check", "mean_image.py")
    assert code == 0 and "nothing to mend." in out, out


def mended(example: str, old: str, new: str) -> str:
    assert old in example
    return example.replace(old, new)


def test_a_method_that_forgets_its_state_is_told_what_it_lacks(bench, tmp_path, example):
    (tmp_path / "forgetful.py").write_text(mended(example, 'self.kept = state["kept"]', "pass"))
    code, out = bench("check", "forgetful.py")
    assert code == 1 and out.endswith("to mend.\n"), out
    assert re.search(r"MEND  given its state after two steps.*\n +the scores differ: state_dict of \w+ lacks", out), out


DETECTOR = '''"""Mean colour, in seven ways that are wrong."""

from dataclasses import dataclass

import torch

from bench.api import Detector, Prediction, Setup

TRAITS = ()


@dataclass(frozen=True)
class Config:
    size: int = 1  # px

    @classmethod
    def tiny(cls):
        return cls()


def build(config: Config, setup: Setup) -> Detector:
    return Mean()


class Mean(Detector):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.mean = 0.0

    def loss(self, image):
        self.mean = float(image.mean())
        self.seen += 1
        return torch.zeros(())

    def predict(self, image):
        {predict}
'''

WRONG = {
    "a tuple": (
        "return image.mean((1, 2, 3)), image.mean(1, keepdim=True)",
        r"predict gives finite .*\n +.*mean_colour.py:\d+: Mean.predict returned a tuple: return Prediction",
    ),
    "one score for all": (
        "return Prediction(image.mean(), image.mean(1, keepdim=True))",
        r"Mean.predict returned scores \(\) for 8 images: one each",
    ),
    "statistics of the batch": (
        "return Prediction((image - image.mean()).abs().mean((1, 2, 3)), image.mean(1, keepdim=True))",
        r"predict gives an image the same score alone and in a batch:\n +scores move by",
    ),
    "noise": (
        "return Prediction(torch.rand(len(image)), image.mean(1, keepdim=True))",
        r"predict says the same twice, and changes no weight:\n +the second answer differs",
    ),
    "what is no buffer": (
        "return Prediction((image.mean((1, 2, 3)) - self.mean).abs(), image.mean(1, keepdim=True))",
        r"a detector that is given the state scores alike:\n +the scores differ: register as a buffer",
    ),
    "a crash": ("raise ValueError('at the end')", r"mean_colour.py:37: ValueError: at the end"),
}


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_a_detector_that_breaks_a_rule_is_told_what_to_do(case, bench, tmp_path):
    predict, told = WRONG[case]
    (tmp_path / "mean_colour.py").write_text(DETECTOR.replace("{predict}", predict))
    code, out = bench("check", "mean_colour.py")
    assert code == 1 and re.search(told, out), out
    assert "Traceback" not in out.partition("a cell of three steps")[0]


def test_what_cannot_be_read_ends_in_one_sentence(bench, tmp_path):
    (tmp_path / "odd.py").write_text('CAPABILITIES = "labels"\n\n\ndef build(config, setup) -> "Strategy": pass\n')
    code, out = bench("check", "odd.py")
    assert code == 2 and "odd.py:1: CAPABILITIES = 'labels' is no tuple of names" in out
    code, out = bench("check", "replya")
    assert code == 2 and "no method, detector or reader 'replya'. Did you mean 'replay'?" in out


def test_a_reader_is_checked_without_its_data(bench, tmp_path):
    (tmp_path / "mine.py").write_text(
        '"""Photographs of a line of bottles."""\n\nfrom bench.api import Sample\n\n'
        "NEEDS = '--data DIR'\n\n\ndef samples(root, categories):\n    return [Sample]\n"
    )
    code, out = bench("check", "mine.py")
    assert code == 1 and "samples takes (root, categories): it is called with a folder, class names and options" in out


@pytest.mark.parametrize("kind", ["method", "detector"])
def test_a_new_file_keeps_the_contract_as_it_stands(kind, bench):
    code, out = bench("new", kind, "my_own")
    assert code == 0 and "bench check my_own.py" in out
    code, out = bench("check", "my_own.py")
    assert code == 0 and "nothing to mend." in out, out


@pytest.mark.parametrize(
    ("name", "says"),
    [("replay", "there is a method 'replay' already"), ("my-own", "cannot be the name"), ("taken", "is there already")],
)
def test_a_new_file_never_takes_the_place_of_another(name, says, bench, tmp_path):
    (tmp_path / "taken.py").write_text("mine")
    code, out = bench("new", "method", name)
    assert code == 2 and says in out and (tmp_path / "taken.py").read_text() == "mine"
