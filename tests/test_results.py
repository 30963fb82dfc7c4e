"""Cell files: round trip, whole or not at all, refusals in one sentence, one run per folder."""

import errno
import fcntl
import json
import math
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from cells import cell

from bench import results
from bench.data.fingerprint import contents
from bench.errors import BadInput
from bench.render.show import show


def test_a_cell_comes_back_with_its_gaps(tmp_path):
    made = cell(routing_metric := 0.875, method="cl_patchcore", seed=7)
    made["threshold"]["value"][1] = math.nan
    path = results.write_cell(tmp_path, made)
    assert path == tmp_path / "toy/1x3/cl_patchcore+patchcore/seed-7.json"
    back = results.read(path)
    np.testing.assert_array_equal(back["matrices"]["aupro"], made["matrices"]["aupro"])  # NaN equals NaN here
    assert back["matrices"]["aupro"][2][0] == routing_metric
    assert math.isnan(back["matrices"]["aupro"][0][1]) and math.isnan(back["threshold"]["value"][1])
    assert back["spec"] == made["spec"] and back["cost"] == made["cost"] and back["cost"]["gpu"] is None
    stored = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert stored["matrices"]["aupro"][0] == [routing_metric, None, None]


def test_arrays_and_infinities_are_written_as_json(tmp_path):
    made = cell()
    made["matrices"]["aupro"] = np.array(made["matrices"]["aupro"], dtype=np.float32)
    made["threshold"]["value"] = [np.float64(1.5), math.inf, -math.inf]
    back = results.read(results.write_cell(tmp_path, made))
    assert back["matrices"]["aupro"][2] == pytest.approx([0.9] * 3)
    assert back["threshold"]["value"][0] == 1.5 and all(map(math.isnan, back["threshold"]["value"][1:]))


def test_a_text_survives_as_it_is(tmp_path):
    reason = 'Traceback:\n  x = [1,    2]\n  {"a":   1}\nValueError: "é" {[\\'
    assert results.read(results.write_cell(tmp_path, cell(status="failed", reason=reason)))["reason"] == reason


def test_key_ignores_the_order_of_keys_and_nothing_else():
    spec = cell()["spec"]
    assert results.key_of(dict(reversed(spec.items()))) == results.key_of(spec)
    assert len(results.key_of(spec)) == 16
    others = [spec | {"seed": 1}, spec | {"method_config": {"per_class": 11}}, spec | {"fingerprint": "x"}]
    assert len({results.key_of(other) for other in [spec, *others]}) == 4


def test_options_and_orders_have_files_of_their_own(tmp_path):
    specs = [cell(**given)["spec"] for given in ({}, {"order": "random:3"}, {"variant": "per_class=5"})]
    paths = [results.cell_path(tmp_path, spec).relative_to(tmp_path).as_posix() for spec in specs]
    assert paths[0] == "toy/1x3/replay+patchcore/seed-0.json"
    for path, option in zip(paths[1:], ("order=random-3", "per_class=5"), strict=True):
        assert re.fullmatch(rf"toy/1x3/replay\+patchcore,{option},[0-9a-f]{{8}}/seed-0.json", path)
    long = [results.cell_path(tmp_path, cell(variant="x" * 300 + end)["spec"]) for end in "ab"]
    assert long[0] != long[1] and all(len(path.parent.name) < 255 for path in long)


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "way_out"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "--results"), (errno.EACCES, "--results")]
)
def test_a_full_or_read_only_disk_leaves_the_old_file(tmp_path, monkeypatch, call, code, way_out):
    path = results.write_cell(tmp_path, cell(0.5))
    before = path.read_bytes()

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    if call == "write":
        monkeypatch.setattr("builtins.open", refuse)
    else:
        monkeypatch.setattr(os, call, refuse)
    with pytest.raises(BadInput, match=way_out) as error:
        results.write_cell(tmp_path, cell(0.9))
    monkeypatch.undo()
    assert str(path) in str(error.value) and os.strerror(code) in str(error.value)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]  # no temporary file is left


def test_an_interrupt_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = results.write_cell(tmp_path, cell(0.5))
    before = path.read_bytes()

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        results.write_cell(tmp_path, cell(0.9))
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_a_folder_that_cannot_be_made_is_refused_up_front(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match=r"results folder .*file/results cannot be written .*--results"):
        results.check_disk(tmp_path / "file" / "results")
    results.check_disk(tmp_path / "new" / "results")
    assert os.listdir(tmp_path / "new" / "results") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="make it writable"):
        results.check_disk(tmp_path)


def corrupt(text, **changes):
    data = json.loads(text)
    data.update(changes)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[: len(text) // 2], "not a cell file"),
        (lambda text: "", "not a cell file"),
        (lambda text: "[]", "not a cell file"),
        (lambda text: "\0" * 100, "not a cell file"),
        (lambda text: corrupt(text, schema=99), "schema 99"),
        (lambda text: corrupt(text, status="done"), "status: input should be 'ok'"),
        (lambda text: corrupt(text, cost=None), "cost: input should be"),
        (lambda text: corrupt(text, spec={}), "spec.scenario: field required"),
        (lambda text: corrupt(text, matrices={"aupro": [[1, 2], [3, 4]]}), "aupro is not a matrix of 3 steps × 3"),
        (lambda text: corrupt(text, matrices={"aupro": [[1, 2, 3]]}), "aupro is not a matrix of 3 steps × 3"),
        (lambda text: text.replace('"seed": 0', '"seed": 1'), "edited by hand"),
        (lambda text: text.replace('"pooled"', '"spooled"'), "pooled: field required"),
        (lambda text: text.replace("0.9", "0.8", 1), "its checksum is another"),
        (lambda text: corrupt(text, pooled={}), "its checksum is another"),
    ],
)
def test_a_corrupt_file_is_named_with_a_way_out_and_not_lost(tmp_path, damage, says):
    good, bad = results.write_cell(tmp_path, cell(seed=1)), results.write_cell(tmp_path, cell())
    damaged = damage(bad.read_text())
    bad.write_text(damaged)
    with pytest.raises(BadInput) as error:
        results.read(bad)
    assert all(part in str(error.value) for part in (str(bad), says, "delete it", "--redo"))
    found = dict(results.scan(tmp_path))
    assert list(found) == [bad, good]
    assert isinstance(found[bad], BadInput) and found[good]["spec"]["seed"] == 1
    assert bad.read_text() == damaged


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        results.read(tmp_path / "seed-0.json")


def test_scan_reads_cells_only(tmp_path):
    results.write_cell(tmp_path, cell())
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "other.json").write_text("{}")
    assert len(list(results.scan(tmp_path))) == 1
    assert list(results.scan(tmp_path / "absent")) == []


def test_a_second_run_is_turned_away(tmp_path):
    with results.lock(tmp_path):
        refused = pytest.raises(BadInput, match=rf"in use by another run \(process {os.getpid()}\).*--results")
        with refused, results.lock(tmp_path):
            pytest.fail("two runs hold one folder")
        results.write_cell(tmp_path, cell())
        assert len(list(results.scan(tmp_path))) == 1  # readers need no lock
    with results.lock(tmp_path):
        assert (tmp_path / ".lock" / "pid").read_text().strip() == str(os.getpid())


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_told_in_a_sentence(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    wanted = rf"cannot be locked \({os.strerror(code)}\).*--results"
    with pytest.raises(BadInput, match=wanted), results.lock(tmp_path):
        pytest.fail("nothing was locked")
    (tmp_path / "file").write_text("content")
    with pytest.raises(BadInput, match=r"cannot be locked.*--cache"):
        contents([tmp_path / "file"], tmp_path)


def test_a_killed_run_frees_the_folder(tmp_path):
    code = """if True:
        import sys, time
        from bench.results import lock
        with lock(sys.argv[1]):
            print("held", flush=True)
            time.sleep(60)"""
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BadInput, match=f"process {other.pid}"), results.lock(tmp_path):
            pytest.fail("two runs hold one folder")
        other.send_signal(signal.SIGKILL)
        other.wait()
    with results.lock(tmp_path):
        assert (tmp_path / ".lock" / "pid").read_text().strip() == str(os.getpid())


def test_show_prints_one_cell_in_full(tmp_path):
    results.write_cell(tmp_path, cell(0.5, 0.9, method="cl_patchcore", capabilities=["labels"]))
    text = show("toy/1x3/cl_patchcore+patchcore/0", tmp_path)
    for line in ("seed 0: ok", "declares: labels", "after step 2     0.500    0.900          —          0.700"):
        assert line in text
    assert "forgetting_relative_off_by_one" in text and "routing accuracy" in text and "features.safetensors" in text
    assert text == show(str(results.cell_path(tmp_path, cell(method="cl_patchcore")["spec"])))
    results.write_cell(tmp_path, cell(method="cl_patchcore", seed=1, status="failed", reason="Traceback\nOops: no"))
    both = show("toy/*/cl_patchcore+*", tmp_path)
    assert "seed 0: ok" in both and "seed 1: failed" in both and "Oops: no" in both


def test_show_names_the_nearest_cell(tmp_path):
    results.write_cell(tmp_path, cell())
    with pytest.raises(BadInput, match=r"no result 'toy/1x3/repaly\+patchcore/0'.*toy/1x3/replay\+patchcore/seed-0"):
        show("toy/1x3/repaly+patchcore/0", tmp_path)
