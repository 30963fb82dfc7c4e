"""A plugin file that declares what nobody reads, or reads otherwise, ends in one sentence that names the line."""

import ast
from pathlib import Path

import pytest

from bench import registry
from bench.errors import BadInput
from bench.registry.declarations import HOOKS, TRAITS, declarations

PLUGIN = "class Mine(Plugin):\n    def {}(self, strategy, **_): pass\n"


def declared(kind: str, text: str) -> dict:
    return declarations(kind, Path("mine.py"), ast.parse(text))


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("method", 'CAPABILITIES = "reads_ahead"', "mine.py:1: CAPABILITIES = 'reads_ahead' is no tuple of names"),
        ("method", 'CAPABILITIES = "labels"', r"write CAPABILITIES = \('labels',\)"),
        ("method", 'CAPABILITIES = ("read_ahead",)', "no capability 'read_ahead'. Did you mean 'reads_ahead'"),
        ("method", 'CAPABILITES = ("labels",)', "CAPABILITES is not read by anybody. Did you mean 'CAPABILITIES'"),
        ("method", '\nREQUIRE = "gradient"', "mine.py:2: REQUIRE is not read by anybody. Did you mean 'REQUIRES'"),
        ("method", 'REQUIRES = "gradeint"', "no trait 'gradeint'. Did you mean 'gradient'"),
        ("method", 'TRAITS = ("gradient",)', "TRAITS is declared by a detector, not by a method"),
        ("method", "DEFAULT_DETECTOR = 3", "is not text in quotation marks"),
        ("method", 'TUNED_ON = ("lr",)', "does not map options to sentences"),
        ("method", 'CAPABILITIES = tuple(["labels"])', "give a literal, not an expression"),
        ("detector", 'TRAITS = ("gradeint",)', "no trait 'gradeint'"),
        ("detector", 'TRAITS: tuple = "gradient"', "TRAITS = 'gradient' is no tuple of names"),
        ("detector", 'BACKBONES = "resnet18"', "Did you mean 'BACKBONE'"),
        ("scenario", 'NEED = "data"', "Did you mean 'NEEDS'"),
        ("method", PLUGIN.format("after_training_experience"), "never calls after_training_experience. Did you mean"),
        ("method", PLUGIN.format("before_train_exp"), "Did you mean 'before_training_exp'"),
        ("method", PLUGIN.format("state_dict"), "has state_dict but no load_state_dict"),
        ("method", PLUGIN.format("load_state_dict"), "has load_state_dict but no state_dict"),
    ],
)
def test_a_slip_of_the_pen_is_one_sentence_with_its_line(kind, text, sentence):
    with pytest.raises(BadInput, match=sentence) as caught:
        declared(kind, text)
    assert "\n" not in str(caught.value)


def test_what_is_right_is_read_as_it_stands():
    assert declared("method", 'CAPABILITIES = ("labels",)\nREQUIRES = "gradient"\nTEMPLATES = 3') == {
        "DEFAULT_DETECTOR": "reverse_distillation", "REQUIRES": "gradient", "CAPABILITIES": ("labels",), "TUNED_ON": {},
    }  # fmt: skip
    assert declared("detector", 'TRAITS = ("of_my_own",)')["TRAITS"] == ("of_my_own",), "plugins may agree on others"


@pytest.mark.parametrize("kind", ["method", "detector", "scenario"])
def test_the_files_of_the_project_declare_what_is_read(kind):
    for entry in registry.found(kind).values():
        assert entry.declared


def test_every_trait_of_the_vocabulary_is_that_of_a_detector():
    traits = {trait for entry in registry.found("detector").values() for trait in entry.declared["TRAITS"]}
    assert traits == set(TRAITS)


def test_the_hooks_are_those_that_avalanche_calls():
    from avalanche.core import BaseSGDPlugin

    import bench.preload  # noqa: F401 - imports Avalanche, its warnings silenced

    assert set(HOOKS) == {name for name in dir(BaseSGDPlugin) if name.startswith(("before_", "after_"))}


CONFIG = "class Config:\n    @classmethod\n    def tiny(cls): return cls()\n"
FROZEN = "from dataclasses import dataclass\n@dataclass(frozen=True)\n"
BUILD = "def build(config, setup) -> 'Strategy': pass\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (CONFIG, "Config is no frozen dataclass"),
        (FROZEN + "class Config:\n    size: int = 1\n", "Config has no `tiny`"),
    ],
)
def test_a_config_that_cannot_be_used_is_told_when_the_file_is_loaded(tmp_path, text, sentence):
    file = tmp_path / "mine.py"
    file.write_text(text + BUILD)
    with pytest.raises(BadInput, match=sentence):
        registry.entry.Entry("method", "mine", file, "").load()
