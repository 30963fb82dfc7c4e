"""`bench figure`: pictures from what a run kept, and what it says where there is nothing to draw from."""

import numpy as np
import pytest
from command import MINI
from matplotlib import image as picture

from bench import results

pytestmark = pytest.mark.slow

CELL = "custom/mini/finetune+autoencoder,autoencoder.epochs=1/seed-0"
KEPT = (*MINI, "--keep")
FIGURE = ("figure", CELL, "--scenario", "mini.yaml")


def test_a_kept_run_draws_input_reconstruction_map_and_mask_of_every_class(bench, tmp_path):
    assert bench(*KEPT)[0] == 0
    code, out = bench(*FIGURE)
    assert code == 0, out
    files = sorted(path.name for path in tmp_path.glob("out/figures/custom/mini/*/seed-0/*.png"))
    assert files == ["gear.step-2.png", "wood.step-2.png"]
    pixels = picture.imread(next(tmp_path.glob("out/figures/**/gear.step-2.png")))
    assert pixels.shape[0] > pixels.shape[1] > 400 and np.std(pixels[..., :3]) > 0.1


@pytest.mark.parametrize("detector", ["vae", "cae", "inpaint"])
def test_detectors_that_restore_images_are_drawn_with_them(detector, bench, monkeypatch):
    from bench.render import figure

    drawn = {}
    monkeypatch.setattr(
        figure.sheet, "write_sheet", lambda path, title, rows, columns: drawn.update({path.name: columns})
    )
    run = ("run", "--methods", "finetune", "--detectors", detector, "--scenario", "mini.yaml", "--keep")
    assert bench(*run, "--set", f"{detector}.epochs=1")[0] == 0
    code, out = bench("figure", f"custom/mini/finetune+{detector}*/seed-0", "--scenario", "mini.yaml")
    assert code == 0, out
    assert list(drawn["gear.step-2.png"]) == ["input", "reconstruction", "map", "mask"]


def test_the_pictures_are_those_of_the_run(bench, tmp_path, monkeypatch):
    """The revived detector gives the scores that the run itself gave."""
    from bench import evaluation
    from bench.render import figure

    seen = {}
    original = evaluation.Evaluation.enter

    def remember(self, said):
        rows = {column: self.truth.rows[column] for column in said.seen}
        seen[said.step] = {column: said.scores[said.places(own)].tolist() for column, own in rows.items()}
        return original(self, said)

    monkeypatch.setattr(evaluation.Evaluation, "enter", remember)
    bench(*KEPT)
    drawn = []
    monkeypatch.setattr(figure.sheet, "write_sheet", lambda path, title, rows, columns: drawn.append(rows) or path)
    bench(*FIGURE, "--class", "gear", "--step", "1", "--images", "0,3,5")
    shown = [row.rpartition("\n")[2] for row in drawn[0]]
    assert shown == [f"{seen[0][0][place]:.3g}" for place in (0, 3, 5)]


def test_a_method_that_is_told_the_class_shows_the_detector_of_that_class(bench, monkeypatch):
    from bench.render import figure

    bench(*KEPT, "--methods", "single")
    drawn = {}
    monkeypatch.setattr(figure.sheet, "write_sheet", lambda path, title, rows, columns: drawn.update({path.name: rows}))
    cell = CELL.replace("finetune", "single")
    bench("figure", cell, "--scenario", "mini.yaml", "--class", "gear", "--step", "1")
    bench("figure", cell, "--scenario", "mini.yaml", "--class", "gear", "--step", "2")
    assert drawn["gear.step-1.png"] == drawn["gear.step-2.png"], "the detector of the first step judges the first class"


def test_what_the_memory_holds_is_drawn_step_after_step(bench, tmp_path, monkeypatch):
    (tmp_path / "halves.py").write_text(MEMORY)
    run = [part if part != "finetune" else "halves" for part in KEPT]
    assert bench(*run, "--plugin", "halves.py")[0] == 0
    from bench.render import figure

    drawn = {}
    monkeypatch.setattr(
        figure.sheet, "write_sheet", lambda path, title, rows, columns: drawn.update({path.name: columns})
    )
    code, out = bench(*FIGURE[:1], CELL.replace("finetune", "halves"), *FIGURE[2:], "--plugin", "halves.py")
    assert code == 0, out
    assert list(drawn["gear.memory.png"]) == ["original", "half,\nstep 1", "half,\nstep 2"]
    assert list(drawn["wood.memory.png"]) == ["original", "half,\nstep 2"]
    original, first, second = drawn["gear.memory.png"].values()
    assert np.allclose(first[0], original[0] / 2) and np.allclose(second[0], original[0] / 4), "the state of each step"


MEMORY = '''"""Remembers an image at a brightness that halves with every step."""

from bench.api import Plugin, Strategy
from methods.finetune import Config


def build(config, setup) -> Strategy:
    return setup.strategy([Halves()])


class Halves(Plugin):
    share = 1.0

    def after_training_exp(self, strategy, **_):
        self.share /= 2

    def exhibits(self, images, step):
        return {"half": images * self.share}

    def state_dict(self):
        return {"share": self.share}

    def load_state_dict(self, state):
        self.share = state["share"]
'''


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--class", "wod"), "no class 'wod'. Did you mean 'wood'?"),
        (("--step", "3"), "has steps 1 to 2"),
        (("--images", "99"), "the test set of gear has images 0 to 7"),
        (("--weights", "absent.safetensors"), None),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_sentence(bench, extra, said):
    bench(*KEPT)
    code, out = bench(*FIGURE, *extra)
    assert (code, "Traceback" in out) == ((2 if said else 0), False)
    assert said is None or said in out


def test_a_cell_that_kept_nothing_says_how_to_keep_it_and_running_with_keep_runs_it_again(bench, tmp_path):
    bench(*KEPT[:-1])
    code, out = bench(*FIGURE)
    assert code == 2 and "--keep" in out
    assert "1 of 1 cells would run" in bench(*KEPT, "--plan")[1]
    bench(*KEPT)
    assert "0 of 1 cells would run" in bench(*KEPT, "--plan")[1]
    path = next(tmp_path.glob("results/custom/**/seed-0.json"))
    results.kept(path, 1).write_bytes(b"not a state")
    assert "is broken or of another run" in bench(*FIGURE)[1]


def test_a_cell_of_other_data_is_refused(bench, tmp_path):
    bench(*KEPT)
    manifest = tmp_path / "mini.yaml"
    manifest.write_text(manifest.read_text().replace("good: 4", "good: 3"))
    code, out = bench(*FIGURE)
    assert code == 2 and "was run with another fingerprint" in out
