"""What every method and detector owes: found by the registry, a new one adds no line here."""

import inspect

import pytest

from bench import registry
from bench.contract.rules import RULES, broken, runs_behind_the_wall
from bench.contract.trial import Trial
from bench.schema.config import resolve

CHEAP = {"finetune", "replay", "autoencoder", "padim"}  # tried in the fast part of the suite too
ENTRIES = [entry for kind in registry.FOLDERS for entry in registry.found_entries(kind).values()]
TRIALS = {}


def cases():
    for entry in ENTRIES:
        for rule in RULES[entry.kind]:
            tries = entry.kind != "scenario" and RULES[entry.kind].index(rule) > 2
            marks = [pytest.mark.slow] if tries and entry.name not in CHEAP else []
            if (
                entry.kind != "detector" or rule is not runs_behind_the_wall
            ):  # as the default of a method, or in the grid
                yield pytest.param(entry, rule, id=f"{entry.kind}-{entry.name}-{rule.__name__}", marks=marks)


@pytest.mark.parametrize(("entry", "rule"), list(cases()))
def test_the_contract_is_kept(entry, rule, request, tmp_path_factory):
    key = (entry.kind, entry.name)
    if key not in TRIALS:
        arrays = None if entry.kind == "scenario" else request.getfixturevalue("arrays")
        TRIALS.clear()  # what the last one has trained is not needed again
        TRIALS[key] = Trial(entry, arrays, tmp_path_factory.mktemp(entry.name))
    assert not broken(rule, TRIALS[key])


@pytest.mark.parametrize("name", registry.found_entries("detector"))
def test_every_option_of_the_project_says_its_unit_or_reason(name):
    entry = registry.find_entry("detector", name)
    source = entry.file.read_text()
    assert resolve(name, entry.load(), "paper", {}) == entry.load().Config()
    body = source[source.index("class Config") :].split("\n\n    @classmethod")[0]
    for field in inspect.get_annotations(entry.load().Config):  # its own: an inherited one is told where it comes from
        line = next(line for line in body.splitlines() if line.strip().startswith(f"{field}:"))
        assert "#" in line or field in ("epochs", "batch_size", "lr"), line
