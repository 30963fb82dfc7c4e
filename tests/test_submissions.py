"""External submissions: scored here from numbers, shown as external; whatever is not right is refused in a sentence."""

import csv
import io
import os
import pickle
import shutil
import struct
import zipfile

import numpy as np
import pytest
from handed_in import COUNT, SIDE, arrays, form, write
from trees import MANIFEST

from bench import results
from bench.metrics.ranking import image_metrics
from bench.render import leaderboard
from bench.results import stored

SUBMIT = ("submit", "given", "--scenario", "mini.yaml")
CELL = "custom/mini/mine+colours,external=A.-Body/seed-0"


@pytest.fixture(scope="module")
def handed(tmp_path_factory):
    """A right submission in the folder `given`, beside its stream and the images of that in `.cache`."""
    folder = tmp_path_factory.mktemp("handed")
    (folder / "mini.yaml").write_text(MANIFEST)
    write(folder / "given", form(folder / "given"), arrays())
    return folder


@pytest.fixture
def given(handed, tmp_path, bench):
    """A right submission in the folder `given`, to spoil."""
    return shutil.copytree(handed, tmp_path, dirs_exist_ok=True) / "given"


def entered(tmp_path):
    return results.read(place(tmp_path))


def place(tmp_path):
    """The one file of the cell; its folder ends with a hash."""
    (path,) = tmp_path.glob(f"results/{CELL.replace('/seed', ',*/seed')}.json")
    return path


def test_a_submission_is_scored_here_and_entered_as_external(bench, given, tmp_path):
    code, out = bench(*SUBMIT)
    assert code == 0 and f"entered {place(tmp_path).relative_to(tmp_path)}" in out, out
    made = entered(tmp_path)
    assert (made["status"], made["capabilities"]) == ("ok", ["labels"])
    assert made["spec"]["external"] == {"author": "A. Body", "reference": "https://example.org/paper"}
    assert made["cost"]["train_s"] == [1.5, 2.5] and np.isnan(made["cost"]["carried_bytes"]).all()
    assert all(np.isfinite(made["matrices"][name][-1]).all() for name in made["matrices"])
    assert np.isfinite(made["matrices"]["map_max_image_auroc"][-1]).all()
    assert made["routing_accuracy"] == [1.0, 0.5] and np.isnan(made["threshold"]["f1"]).all()
    assert "external: scores by A. Body, https://example.org/paper" in bench("show", CELL)[1]


@pytest.mark.slow
def test_the_table_marks_it_and_says_what_the_mark_means(bench, given, tmp_path):
    bench("run", "--methods", "finetune", "--detectors", "autoencoder", "--scenario", "mini.yaml", "--size", "tiny",
          "--set", "autoencoder.epochs=1")  # fmt: skip
    before = "".join(leaderboard.render(tmp_path / "results").values())
    assert "¶" not in before
    bench(*SUBMIT)
    rendered = leaderboard.render(tmp_path / "results")
    table = rendered[tmp_path / "results" / "leaderboard.csv"]
    text = "".join(part for path, part in rendered.items() if path.suffix == ".md")
    assert "| mine§¶ " in text and "external: scores handed in by their author" in text
    assert "finetune" in text.split("| tier 1")[1].splitlines()[2], "an external row is never the best"
    assert "A. Body" in table and "Some GPU" in text


def test_what_its_settings_were_tuned_on_is_recorded_and_shown(bench, given, tmp_path):
    told = ["factor: the test set of custom/mini", "lr: another line"]
    write(given, form(given, tuned_on=told), arrays())
    bench(*SUBMIT)
    assert entered(tmp_path)["tuned_on"] == told
    assert f"tuned on: {'; '.join(told)}" in bench("show", CELL)[1]
    table = leaderboard.render(tmp_path / "results")[tmp_path / "results" / "leaderboard.csv"]
    lines = list(csv.DictReader(io.StringIO(table)))
    assert [line["tuned_on"] for line in lines] == ["; ".join(told)]
    write(given, form(given, tuned_on=[]), arrays())
    bench(*SUBMIT)
    assert "tuned_on" not in entered(tmp_path)


def test_one_altered_score_changes_the_table_accordingly(bench, given, tmp_path):
    bench(*SUBMIT)
    (page,) = (tmp_path / "results" / "tables").glob("*.md")
    before, old = entered(tmp_path), page.read_text()
    values = arrays()
    labels = _labels(tmp_path)
    place = int(np.argmin(np.where(labels > 0, values["step-1/wood/scores"], np.inf)))
    values["step-1/wood/scores"][place] = 9.0  # the defect that scored lowest now scores highest
    write(given, form(given), values)
    assert bench(*SUBMIT)[0] == 0
    after = entered(tmp_path)
    wanted = image_metrics(values["step-1/wood/scores"], labels)["image_auroc"]
    assert after["matrices"]["image_auroc"][1][1] == wanted > before["matrices"]["image_auroc"][1][1]
    assert after["matrices"]["image_auroc"][1][0] == before["matrices"]["image_auroc"][1][0]
    means = [np.mean(made["matrices"]["image_auroc"][1]) for made in (before, after)]
    assert f"| {means[0]:.3f} |" in old.replace("  ", "")
    assert f"| {means[1]:.3f} |" in page.read_text().replace("  ", "")


def _labels(tmp_path):
    from bench import data
    from bench.schema import stream as streams

    found, _ = data.load_arrays(streams.load_stream(str(tmp_path / "mini.yaml")), None, SIDE, tmp_path / ".cache")
    return found.labels[data.rows_of(found, [1], train=False)]


def test_a_re_score_of_an_external_cell_gives_it_again(bench, given, tmp_path):
    bench(*SUBMIT)
    path = place(tmp_path)
    before = path.read_bytes()
    assert "no number moved" in bench("score", CELL, "--scenario", "mini.yaml")[1]
    assert path.read_bytes() == before


def test_the_order_of_the_images_is_printed(bench, given, tmp_path):
    code, out = bench("data", "order", "mini.yaml")
    lines = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and [line[:2] for line in lines] == [[n, str(i)] for n in ("gear", "wood") for i in range(COUNT)]
    good = ["/good/" in line[2] for line in lines[COUNT:]]
    assert good == (_labels(tmp_path) == 0).tolist()


def test_without_maps_and_calibration_their_columns_are_empty(bench, given, tmp_path):
    write(given, form(given, cost=None), {name: a for name, a in arrays().items() if name.endswith("/scores")})
    assert bench(*SUBMIT)[0] == 0
    made = entered(tmp_path)
    assert np.isfinite(made["matrices"]["image_auroc"][-1]).all() and np.isnan(made["matrices"]["aupro"]).all()
    assert np.isnan(made["threshold"]["f1"]).all() and made["routing_accuracy"] is None
    assert "—" in (tmp_path / "leaderboard.md").read_text()


def test_it_never_lies_where_a_cell_of_ours_does_nor_where_anothers_does(bench, given, tmp_path):
    write(given, form(given, method="finetune", detector="autoencoder"), arrays())
    bench(*SUBMIT)
    write(given, form(given, method="finetune", detector="autoencoder", author="A.-Body"), arrays())
    bench(*SUBMIT)
    files = tmp_path.glob("results/custom/mini/finetune+autoencoder,external=A.-Body,*/seed-0.json")
    assert sorted(results.read(path)["spec"]["external"]["author"] for path in files) == ["A. Body", "A.-Body"]


FORMS = {
    "no form": (lambda form: None, "cannot be read"),
    "not YAML": (lambda form: "method: [", "is not valid YAML"),
    "YAML that would run code": (lambda form: "!!python/object/apply:os.system [echo]", "is not valid YAML"),
    "YAML that would grow": (lambda form: "method: &a [x]\ndetector: *a\n", "has an alias"),
    "a key twice": (lambda form: "seed: 0\nseed: 1\n", "'seed' twice"),
    "a book": (lambda form: "#" * 70_000, "longer than 64,000 bytes"),
    "no keys": (lambda form: "just words", "holds no keys"),
    "a key missing": (lambda form: form | {"author": None}, "lacks author"),
    "an unknown key": (lambda form: form | {"colour": "red"}, "unknown key 'colour'"),
    "a hand-typed matrix": (lambda form: form | {"matrices": {"image_auroc": [[0.99]]}}, "never taken from a form"),
    "a hand-typed metric": (lambda form: form | {"image_auroc": 0.99}, "never taken from a form"),
    "a metric among the costs": (lambda form: form | {"cost": {"image_auroc": 0.99}}, "has the cost 'image_auroc'"),
    "a cost that is none": (lambda form: form | {"cost": {"train_s": [1.0, float("nan")]}}, "must be a list of 2"),
    "a method that is a path": (lambda form: form | {"method": "../../x"}, "a name is letters"),
    "an unprintable author": (lambda form: form | {"author": "A\nB"}, "must be one line of text"),
    "tuned on no list": (lambda form: form | {"tuned_on": "the test set"}, "has tuned_on of type str: it must be list"),
    "tuned on a number": (lambda form: form | {"tuned_on": [7]}, "has tuned_on '7': it must be one line of text"),
    "tuned on two lines": (lambda form: form | {"tuned_on": ["a\nb"]}, "must be one line of text"),
    "tuned on a book": (lambda form: form | {"tuned_on": ["x"] * 21}, "has 21 lines of tuned_on: at most 20"),
    "an unknown capability": (lambda form: form | {"capabilities": ["magic"]}, "declares 'magic'"),
    "an unknown scenario": (lambda form: form | {"scenario": "mvtec/99x1@1"}, "is for mvtec/99x1@1"),
    "no version": (lambda form: form | {"scenario": "custom/mini"}, "without its version"),
    "another version": (lambda form: form | {"scenario": "custom/mini@7"}, "is for custom/mini@7"),
    "an unknown order": (lambda form: form | {"order": "best first"}, "no class order 'best first'"),
    "a seed that is none": (lambda form: form | {"seed": "0"}, "has seed of type str"),
    "another fingerprint": (lambda form: form | {"fingerprint": "0" * 64}, "fingerprint 0000000000000000"),
    "no fingerprint": (lambda form: form | {"fingerprint": "abc"}, "has the fingerprint 'abc'"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS, ids=str)
def test_a_form_that_is_wrong_is_refused(name, bench, given):
    change, said = FORMS[name]
    content = change(form(given))
    if content is None:
        (given / "submission.yaml").unlink()
    else:
        dropped = content if isinstance(content, str) else {k: v for k, v in content.items() if v is not None}
        write(given, dropped, arrays())
    refused(bench, said)


def refused(bench, said):
    code, out = bench(*SUBMIT)
    assert code == 2 and said in out, out
    assert out.startswith("error: ") and len(out.strip().splitlines()) == 1, "one sentence, no traceback"


def with_(**changed):
    """Arrays with some replaced (names: step, class, part joined by _), or taken out by None."""
    values = arrays() | {name.replace("__", "/"): value for name, value in changed.items()}
    return {name: value for name, value in values.items() if value is not None}


SCORES = np.zeros(COUNT, np.float32)
ARRAYS = {
    "an array missing": ({"step-1/wood/scores": None}, "lacks step-1/wood/scores"),
    "maps of one class missing": ({"step-1/gear/maps": None}, "lacks step-1/gear/maps"),
    "a calibration missing": ({"step-0/calibration": None}, "lacks step-0/calibration"),
    "another shape": ({"step-0/gear/scores": SCORES[:-1]}, "is float32 (7,): it must be float32 (8,)"),
    "another type": ({"step-0/gear/scores": SCORES.astype(np.float64)}, "is float64 (8,): it must be float32"),
    "maps of another size": ({"step-0/gear/maps": np.zeros((8, 32, 32), np.uint16)}, "must be uint16 (8, 64, 64)"),
    "text": ({"step-0/gear/scores": np.array(["a"] * COUNT)}, "not of numbers"),
    "Python objects": ({"step-0/gear/scores": np.array([{}] * COUNT, object)}, "would be unpickled"),
    "NaN": ({"step-0/gear/scores": np.full(COUNT, np.nan, np.float32)}, "NaN or infinite"),
    "infinity": ({"step-1/calibration": np.full(3, np.inf, np.float32)}, "NaN or infinite"),
    "a scale that turns a map round": ({"step-0/gear/scale": np.array([0.0, -1.0])}, "does not rise"),
    "a scale of one number": ({"step-0/gear/scale": np.zeros(1)}, "is float64 (1,): it must be float64 2 to 257"),
    "a route to the future": ({"step-0/gear/routes": np.ones(COUNT, np.int32)}, "routes run from 0 to 0"),
    "an unknown class": ({"step-0/bolt/scores": SCORES}, "class 'bolt', which custom/mini has not"),
    "a class before its step": ({"step-0/wood/scores": SCORES}, "not been learned after step 0"),
    "a step too many": ({"step-2/gear/scores": SCORES}, "has steps 0 to 1"),
    "an unknown array": ({"step-0/gear/matrix": SCORES}, "is no array of a submission"),
    "a name of another form": ({"gear": SCORES}, "is none of step-K/calibration"),
    "calibration by more than there are": ({"step-0/calibration": np.zeros(9, np.float32)}, "(1 to 8,)"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS, ids=str)
def test_arrays_that_are_wrong_are_refused(name, bench, given):
    changed, said = ARRAYS[name]
    write(given, form(given), with_(**changed))
    refused(bench, said)


def rezip(folder, *extra, skip=()):
    """Write scores.npz again with further entries: (ZipInfo or name, bytes)."""
    path = folder / "scores.npz"
    with zipfile.ZipFile(path) as old:
        kept = [(info.filename, old.read(info)) for info in old.infolist() if info.filename not in skip]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in (*kept, *extra):
            new.writestr(name, content)


def npy(array) -> bytes:
    text = io.BytesIO()
    np.save(text, array)
    return text.getvalue()


def bomb(shape, content=None) -> bytes:
    """The header of an array of this shape, and `content`, or zeros enough to fill it."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return head.getvalue() + (bytes(4 * int(np.prod(shape))) if content is None else content)


def lengthen(folder):
    with (folder / "scores.npz").open("ab") as file:
        file.write(os.urandom(2_000_000))


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


FIRST = "step-0/gear/scores.npy"
FILES = {
    "no archive": (lambda f: (f / "scores.npz").unlink(), "there is no file"),
    "cut short": (lambda f: (f / "scores.npz").write_bytes((f / "scores.npz").read_bytes()[:5000]), "cut short"),
    "a pickle": (lambda f: (f / "scores.npz").write_bytes(pickle.dumps({"scores": [1]})), "is no .npz"),
    "a pickle inside": (lambda f: rezip(f, (FIRST, pickle.dumps([1.0] * COUNT)), skip=[FIRST]), "no array of numbers"),
    "a way up": (lambda f: rezip(f, ("../../evil.npy", npy(SCORES))), "leads out of the archive"),
    "a way up in between": (lambda f: rezip(f, ("step-0/../../evil.npy", npy(SCORES))), "leads out of the archive"),
    "an absolute path": (lambda f: rezip(f, ("/etc/evil.npy", npy(SCORES))), "leads out of the archive"),
    "a Windows path": (lambda f: rezip(f, ("C:\\evil.npy", npy(SCORES))), "leads out of the archive"),
    "a link inside": (lambda f: rezip(f, (link("step-0/gear/scores2.npy"), b"/etc/passwd")), "is a link"),
    "code inside": (lambda f: rezip(f, ("run.py", b"print(1)")), "is no array (.npy)"),
    "an entry twice": (lambda f: rezip(f, (FIRST, npy(SCORES))), "is there twice"),
    "a bomb": (lambda f: rezip(f, (FIRST, bomb((5_000_000,))), skip=[FIRST]), "must be float32 (8,)"),
    "a bomb under another name": (lambda f: rezip(f, ("x.npy", bomb((5_000_000,)))), "is none of step-K"),
    "a header that says too little": (lambda f: rezip(f, (FIRST, bomb((8,)) + b"more"), skip=[FIRST]), "is another"),
    "a header that says too much": (lambda f: rezip(f, (FIRST, bomb((2**62,), b"")), skip=[FIRST]), "size is another"),
    "a file too long": (lambda f: lengthen(f), "the largest right one"),
    "a broken checksum": (lambda f: corrupt(f), "is broken"),
    "a linked archive": (lambda f: relink(f, "scores.npz"), "is a link"),
    "a linked form": (lambda f: relink(f, "submission.yaml"), "is a link"),
}  # fmt: skip


def relink(folder, name):
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)


def corrupt(folder):
    """Another number in the array than its checksum was made of."""
    path = folder / "scores.npz"
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("step-0/gear/maps.npy")
    start = info.header_offset
    name, extra = struct.unpack("<HH", content[start + 26 : start + 30])
    content[start + 30 + name + extra + info.compress_size - 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES, ids=str)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_files_that_are_wrong_are_refused(name, bench, given, tmp_path):
    change, said = FILES[name]
    change(given)
    refused(bench, said)
    assert not list(tmp_path.rglob("evil*")) and not list((tmp_path / "results").rglob("seed-*"))


def test_a_refused_submission_leaves_the_one_before_as_it_was(bench, given, tmp_path):
    bench(*SUBMIT)
    files = [place(tmp_path), stored.scores_path(place(tmp_path))]
    before = [path.read_bytes() for path in files]
    write(given, form(given), with_(**{"step-0/gear/scores": None}))
    refused(bench, "lacks step-0/gear/scores")
    assert [path.read_bytes() for path in files] == before
