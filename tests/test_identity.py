"""One truth per result: what a cell is called, what may replace it, what counts, and of which source it is."""

import json
import shutil
import sys
from types import SimpleNamespace

import pytest
from cells import cell
from command import bench  # noqa: F401 - a fixture

from bench import registry, results
from bench.analysis import fates
from bench.errors import BadInput
from bench.published import PRINTED_AS
from bench.registry.source import source_digest
from bench.schema import config
from bench.schema.execution import Execution
from bench.schema.spec import Spec

PLUGIN = '''"""Mine."""
from dataclasses import dataclass
from bench.api import Plugin, Setup, Strategy
DEFAULT_DETECTOR = "autoencoder"
CRASH = False
@dataclass(frozen=True)
class Config:
    @classmethod
    def tiny(cls): return cls()
class Mine(Plugin):
    def before_training_exp(self, strategy, **_):
        if CRASH: raise RuntimeError("the bug")
def build(config: Config, setup: Setup) -> Strategy: return setup.strategy([Mine()])
'''
MINE = ("run", "--methods", "mine", "--plugin", "mine.py", "--scenario", "mini.yaml", "--size", "tiny")


def test_an_option_says_whose_it_is():
    given = [config.parse([f"{owner}.epochs=1"]) for owner in ("scale", "inpaint")]
    assert [config.variant(one, ("scale", "inpaint")) for one in given] == ["scale.epochs=1", "inpaint.epochs=1"]


@pytest.mark.parametrize(
    "change",
    [
        {
            "classes": ["bottle", "capsule", "cable"],
            "steps": [["bottle"], ["capsule"], ["cable"]],
        },
        {"weights": {"kind": "path", "source": "features.safetensors", "sha256": "cd" * 32}},
    ],
)
def test_two_keys_of_one_name_have_two_files(tmp_path, change):
    own = {"scenario": "custom/line", "variant": "weights=features"}
    paths = {results.write_cell(tmp_path, cell(**(own | given))) for given in ({}, change)}
    assert len(paths) == 2


def test_a_finished_cell_never_gives_way_to_other_data(tmp_path):
    path = results.write_cell(tmp_path, cell(0.5))
    before = path.read_bytes()
    with pytest.raises(BadInput, match=r"differs in fingerprint.*--redo changed"):
        results.write_cell(tmp_path, cell(0.9, fingerprint="other"))
    assert path.read_bytes() == before
    results.write_cell(tmp_path, cell(0.9))
    results.write_cell(tmp_path, cell(0.9, metric_version=2))  # the same run, measured by a newer rule


def fate(tmp_path, planned, redo="missing", code=None):
    """What a run does with a cell of that spec and code."""
    spec = Spec.of(planned["spec"])
    kept = SimpleNamespace(keep=False, save_maps=False)
    as_cell = SimpleNamespace(spec=spec, key=spec.key, code=code or planned["code"], request=kept, skip="")
    return fates.fate(as_cell, Execution(results=tmp_path, redo=redo))


@pytest.mark.parametrize(
    "change", [{"method_config": {"per_class": 20}}, {"scenario_version": 2, "fingerprint": "new"}]
)
def test_a_default_that_moved_on_stops_nobody(tmp_path, change):
    """A finished cell of the old default stays and is told; it is replaced where that is asked for."""
    results.write_cell(tmp_path, cell())
    now = cell(**change)
    assert fate(tmp_path, now) == f"finished, with another {' and '.join(sorted(change))} (--redo changed)"
    assert fate(tmp_path, now, redo="changed") == "run"


def test_a_cell_of_older_code_is_listed_and_runs_where_that_is_asked_for(tmp_path):
    """So an edited plugin of the project does not give its old numbers in silence."""
    results.write_cell(tmp_path, cell())
    edited = cell()["code"] | {"method": "edited"}
    assert fate(tmp_path, cell(), code=edited) == "finished, with older code (--redo changed)"
    assert fate(tmp_path, cell(), code=edited, redo="changed") == "run"
    assert fate(tmp_path, cell()) == fate(tmp_path, cell(), redo="changed") == "finished"


def test_other_data_are_not_passed_over(tmp_path):
    results.write_cell(tmp_path, cell())
    with pytest.raises(BadInput, match="differs in fingerprint"):
        fate(tmp_path, cell(fingerprint="other"))


def test_a_copy_is_named_and_does_not_count(tmp_path):
    path = results.write_cell(tmp_path, cell())
    shutil.copytree(path.parent, tmp_path / "backup")
    shutil.copy(path, path.with_name("seed-0 (copy).json"))
    found = dict(results.scan(tmp_path))
    assert [at for at, one in found.items() if not isinstance(one, BadInput)] == [path]
    faults = [str(one) for one in found.values() if isinstance(one, BadInput)]
    assert len(faults) == 2 and all("does not count" in text for text in faults)


@pytest.mark.parametrize("value", [1.7, -0.1, "0.9", True])
def test_numbers_that_cannot_be_are_refused(tmp_path, value):
    path = results.write_cell(tmp_path, cell())
    content = json.loads(path.read_text())
    content["matrices"]["image_auroc"][-1][0] = value
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match="image_auroc"):
        results.read(path)


@pytest.mark.parametrize("change", [{"seed": -1}, {"image_size": 0}, {"seed": "0"}, {"unknown": 1}])
def test_a_spec_out_of_range_is_refused(change):
    with pytest.raises(BadInput, match=next(iter(change))):
        Spec.of({**cell()["spec"], **change})


def test_a_digest_follows_what_a_plugin_imports(tmp_path):
    (tmp_path / "mine.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text("x = 1\n")
    entry = registry.Entry("method", "mine", tmp_path / "mine.py", "")
    before = source_digest(entry)
    (tmp_path / "helper.py").write_text("x = 2\n")
    assert source_digest(entry) != before


SOURCE = '''"""What it is."""
import helper  # beside it

class Mine:
    """A class."""

    def act(self):
        """Act."""
        return "# no comment", f"{helper.x}"  # äö
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("What it is", "What else\n\nit is", True),
        ("  # beside it", "", True),
        ("# äö", "# a\n        # longer one", True),
        ('"""A class."""\n\n', "# a class\n\n\n", True),
        ("# no comment", "# no comments", False),
        ('"""Act."""', '"""Act."""; self.x = 1', False),
        ("helper.x", "helper.y", False),
        ("return", "self.y =", False),
    ],
)
def test_a_digest_is_of_what_can_change_a_number(tmp_path, old, new, same):
    (tmp_path / "mine.py").write_text(SOURCE)
    entry = registry.Entry("method", "mine", tmp_path / "mine.py", "")
    before = source_digest(entry)
    assert old in SOURCE
    (tmp_path / "mine.py").write_text(SOURCE.replace(old, new))
    assert (source_digest(entry) == before) == same


def test_papers_are_matched_with_what_exists():
    for method, detector in PRINTED_AS:
        registry.find_entry("method", method)
        registry.find_entry("detector", detector)


@pytest.mark.slow
def test_an_edited_plugin_runs_again_and_a_failed_cell_stays_failed(bench, tmp_path):  # noqa: F811
    (tmp_path / "mine.py").write_text(PLUGIN)
    run = (*MINE, "--set", "autoencoder.epochs=1")
    assert "1 cells ran" in bench(*run)[1]
    code, out = bench(*run)
    assert code == 0 and "0 cells ran" in out and "1 were finished before" in out
    (tmp_path / "mine.py").write_text(PLUGIN.replace("CRASH = False", "CRASH = True"))
    sys.modules.pop("bench_plugin_mine")  # as in a new process
    assert bench(*run)[0] == 1
    code, out = bench(*run)
    assert code == 1 and "1 failed before (--redo failed)" in out
