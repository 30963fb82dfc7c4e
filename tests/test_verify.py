"""`bench verify` finds whatever is not what the rest of a result says, and nothing in what a run has written."""

import json
import shutil

import pytest
from command import MINI

from bench import results
from bench.exchange import verify
from bench.schema.cell_json import json_text, plain, sealed

pytestmark = pytest.mark.slow

CELL = "custom/mini/finetune+autoencoder,autoencoder.epochs=1/seed-0"
VERIFY = ("verify", "--scenario", "mini.yaml")
RUN = (*MINI, "--holdout", "0.25", "--save-maps")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What a run leaves, made once: the folder of its results and the pages beside it."""
    return tmp_path_factory.mktemp("finished") / "run"


@pytest.fixture
def run(bench, finished, tmp_path):
    """(call, the cell file) of a fresh copy of the results."""
    if not finished.exists():
        code, out = bench(*RUN)
        assert code == 0, out
        shutil.copytree(tmp_path, finished)
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return bench, next(tmp_path.glob("results/custom/**/seed-0.json"))


def edit(path, *place, to):
    """Change one value of a cell file, and write it as the bench does: somebody who knows how sealed it anew."""
    content = {name: value for name, value in plain(results.read(path)).items() if name != "checksum"}
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = to
    path.write_text(sealed(json_text(content)))


def test_what_a_run_writes_is_verified_and_a_run_again_gives_it(run):
    bench, _ = run
    code, out = bench(*VERIFY, "--sample", "1")
    assert code == 0, out
    assert "1 cells, 0 differences" in out and f"run again: {CELL.rpartition('/')[0]}" in out
    assert "not verified" not in out


def test_a_number_that_no_images_give(run):
    bench, path = run
    edit(path, "matrices", "image_auroc", 1, 0, to=0.9)
    code, out = bench(*VERIFY)
    assert code == 1
    assert "image_auroc of 'gear' after step 2 is 0.9, which 4 normal and 4 anomalous images cannot give" in out
    assert "leaderboard.csv is not what results gives" in out


def test_a_possible_number_that_its_scores_do_not_give(run):
    bench, path = run
    edit(path, "matrices", "aupro", 1, 0, to=0.25)
    code, out = bench(*VERIFY, CELL.rpartition(",")[0] + "*")
    assert code == 1 and "matrices aupro is off by" in out and "1 differences" in out


def test_a_possible_number_without_scores_is_found_by_another_run(run):
    bench, path = run
    path.with_suffix(".scores.npz").unlink()
    edit(path, "matrices", "aupro", 1, 0, to=0.25)
    assert bench("leaderboard")[0] == 0
    code, out = bench(*VERIFY)
    assert code == 0 and "not verified in 1 cells: scores, which are not kept" in out
    code, out = bench(*VERIFY, "--sample", "5")
    assert code == 1 and "run again, matrices aupro is off by" in out


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("threshold", "f1", 1), 0.123, "threshold f1 is off by"),
        (("matrices", "class_threshold_shift", 1, 0), 7.0, "matrices class_threshold_shift is off by"),
        (("pooled", "image_auroc", 0), 0.5001, "after step 1 pooled image_auroc is off by"),
        (("matrices", "image_ap", 0, 1), 0.5, "image_ap has a number of 'wood', not tested after step 1"),
        (("cost", "train_s"), [1.0], "its cost is of 1 of 2 steps"),
        (("code", "method"), "0" * 64, "its method is other code today: --redo changed"),
        (("stored", "sha256"), "0" * 64, "is not the file that the cell was written with"),
        (("spec", "seed"), 1, "its key does not belong to its spec"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_each_part_of_a_cell(run, place, value, says):
    bench, path = run
    edit(path, *place, to=value)
    code, out = bench(*VERIFY)
    assert code == 1 and says in out, out


def test_a_cell_that_was_written_by_hand_and_a_copy(run, tmp_path):
    bench, path = run
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content))
    shutil.copytree(path.parent, tmp_path / "results" / "backup")
    code, out = bench(*VERIFY)
    assert code == 1
    assert "it is not written as the bench writes it" in out and "does not count" in out


@pytest.mark.parametrize("kept, made, said", [
    ([1.0, 0.9], [1.0, 0.9], []),
    ([1.0, 0.5], [1.0, 0.9], ["routing_accuracy is off by 0.4"]),
    (None, [1.0, 0.9], ["routing_accuracy has other gaps than what it is made of gives"]),
    (None, None, []),
])  # fmt: skip
def test_routing_accuracy_is_a_list_or_nothing(kept, made, said):
    assert list(verify._same(kept, made, "routing_accuracy")) == said
