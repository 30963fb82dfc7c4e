"""A plugin file that declares what nobody reads, or reads otherwise, ends in one sentence that names the line."""

import ast
from pathlib import Path

import pytest

from bench import api, registry
from bench.errors import BadInput
from bench.registry.declarations import CAPABILITIES, HOOKS, TRAITS, declarations

PLUGIN = "class Mine(Plugin):\n    def {}(self, strategy, **_): pass\n"


def declared(kind: str, text: str) -> dict:
    return declarations(kind, Path("mine.py"), ast.parse(text))


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("method", 'CAPABILITIES = "reads_ahead"', "mine.py:1: CAPABILITIES = 'reads_ahead' is no tuple of names"),
        ("method", 'CAPABILITIES = "labels reads_ahead"', "write CAPABILITIES = .'labels', 'reads_ahead'"),
        ("method", 'CAPABILITIES = "labels"', r"write CAPABILITIES = \('labels',\)"),
        ("method", 'CAPABILITIES = ("read_ahead",)', "no capability 'read_ahead'. Did you mean 'reads_ahead'"),
        ("method", 'CAPABILITES = ("labels",)', "CAPABILITES is not read by anybody. Did you mean 'CAPABILITIES'"),
        ("method", '\nREQUIRE = "gradient"', "mine.py:2: REQUIRE is not read by anybody. Did you mean 'REQUIRES'"),
        ("method", 'REQUIRES = "gradeint"', "no trait 'gradeint'. Did you mean 'gradient'"),
        ("method", 'TRAITS = ("gradient",)', "TRAITS is declared by a detector, not by a method"),
        ("method", "DEFAULT_DETECTOR = 3", "is not text in quotation marks"),
        ("method", 'TUNED_ON = ("lr",)', "does not map options to sentences"),
        ("method", 'AS_RELEASED = ("lr",)', "does not map options to values"),
        ("detector", 'AS_RELEASE = {"lr": 1}', "Did you mean 'AS_RELEASED'"),
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
        "AS_RELEASED": {},
    }  # fmt: skip
    assert declared("detector", 'TRAITS = ("of_my_own",)')["TRAITS"] == ("of_my_own",), "plugins may agree on others"


@pytest.mark.parametrize("kind", ["method", "detector", "scenario"])
def test_the_files_of_the_project_declare_what_is_read(kind):
    for entry in registry.found_entries(kind).values():
        assert entry.declared


def test_every_trait_of_the_vocabulary_is_that_of_a_detector():
    traits = {trait for entry in registry.found_entries("detector").values() for trait in entry.declared["TRAITS"]}
    assert traits == set(TRAITS)
    asked = {entry.declared["REQUIRES"] for entry in registry.found_entries("method").values()} - {None}
    assert asked | {"bfloat16", "image_level"} == traits, "a trait that nothing asks for says nothing"


def test_the_hooks_are_those_that_avalanche_calls():
    from avalanche.core import BaseSGDPlugin

    import bench.backends.preload  # noqa: F401 - imports Avalanche, its warnings silenced

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


def test_a_detector_that_asks_for_a_backbone_declares_one():
    text = "def build(config, setup) -> Detector:\n    return Mine(setup.features(4))\n"
    with pytest.raises(BadInput, match=r"mine.py:2: setup.features asks for a backbone .* BACKBONE = "):
        declared("detector", text)
    assert declared("detector", text + 'BACKBONE = "resnet18"\n')["BACKBONE"] == "resnet18"


def method(tmp_path, text: str) -> registry.entry.Entry:
    file = tmp_path / "mine.py"
    file.write_text(text)
    return registry.find_entry("method", "mine", [file])


@pytest.mark.parametrize(
    ("returns", "sentence"),
    [("", "it does not say what it returns"), (" -> Stratgy", "it is annotated to return Stratgy")],
)
def test_a_build_that_does_not_say_whose_it_is_is_told_with_its_line(tmp_path, returns, sentence):
    with pytest.raises(BadInput, match=rf"mine.py:2: is `build` a method's or a detector's\? Here {sentence}"):
        method(tmp_path, f"\ndef build(config, setup){returns}: pass\n")
    for kind in ("'Strategy'", "api.Strategy"):
        assert method(tmp_path, f"def build(config, setup) -> {kind}: pass\n").kind == "method"


def test_a_default_detector_exists(tmp_path):
    mine = method(tmp_path, f'{BUILD}DEFAULT_DETECTOR = "pachcore"\n')
    with pytest.raises(
        BadInput, match=r"mine.py:2: DEFAULT_DETECTOR: no detector 'pachcore'. Did you mean 'patchcore'"
    ):
        registry.default_detector(mine)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import sys\nsys.exit(3)\n", r"mine.py:2\) cannot be imported: SystemExit: 3"),
        ("\nimport nowhere_at_all\n", r"mine.py:2\) cannot be imported: ModuleNotFoundError"),
        (f'{FROZEN}{CONFIG}    lr: float = 1\nTUNED_ON = {{"rl": "VisA"}}\n', r"mine.py:7: TUNED_ON names 'rl'"),
    ],
)
def test_what_goes_wrong_on_loading_names_the_line(tmp_path, text, sentence):
    with pytest.raises(BadInput, match=sentence):
        method(tmp_path, text + BUILD).load()


def test_a_helper_beside_a_plugin_is_found(tmp_path):
    (tmp_path / "my_helper_beside.py").write_text("SIZE = 3\n")
    mine = method(tmp_path, f"from my_helper_beside import SIZE\n{FROZEN}{CONFIG}    size: int = SIZE\n{BUILD}")
    assert mine.load().Config().size == 3


def test_two_plugins_with_helpers_of_one_name_do_not_share_them(tmp_path):
    for name, size in (("one", 3), ("other", 4)):
        folder = tmp_path / name / "sizes_beside"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        (folder / "own.py").write_text(f"SIZE = {size}\n")
    text = f"from sizes_beside.own import SIZE\n{FROZEN}{CONFIG}    size: int = SIZE\n{BUILD}"
    assert method(tmp_path / "one", text).load().Config().size == 3
    with pytest.raises(BadInput, match=r"other/sizes_beside/__init__.py, and .*one/sizes_beside.* rename one of them"):
        method(tmp_path / "other", text).load()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "after_training_experience",
            "Avalanche never calls after_training_experience. Did you mean 'after_training_exp",
        ),
        ("state_dict", "Mine has state_dict but no load_state_dict"),
    ],
)
def test_a_plugin_of_a_plugin_is_checked_too(name, sentence):
    from bench.api import Plugin

    class Between(Plugin):
        pass

    with pytest.raises(BadInput, match=sentence):
        type("Mine", (Between,), {name: lambda self, strategy: None})


def test_the_api_names_what_it_gives_in_one_way():
    tree = ast.parse(Path(api.__file__).read_text())
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    told = {alias.name: node.module for node in typed.body for alias in node.names}
    assert told == api.HOMES
    assert all(getattr(api, name) is not None for name in api.__all__)


def test_every_capability_of_a_record_may_be_declared():
    from typing import get_args

    from bench.schema.cell import Capability

    assert set(get_args(Capability)) <= set(CAPABILITIES)


def test_a_docstring_moves_no_cursor(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text('"""Mine\\x1b[2K: first.\n\nThe \\x1b[1Arest."""\n')
    entry = registry.Entry("method", "mine", file, "")
    assert (entry.summary, entry.description) == ("Mine[2K: first.", "The [1Arest.")
