"""The command line: what it refuses, and with which sentence. Planning runs in this process to save the imports."""

import json
import math
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from command import BASE, MINI, ROOT, tables
from safetensors.torch import save_file
from trees import MANIFEST

from bench import cli, results, session


@pytest.mark.slow
def test_a_run_fills_the_table_and_the_second_finds_it_finished(bench, tmp_path):
    code, out = bench(*MINI)
    assert code == 0, out
    table = (tmp_path / "leaderboard.md").read_text()
    assert "custom/mini@1" in table and "| finetune" in table
    assert bench("leaderboard", "--check")[0] == 0
    code, out = bench(*MINI)
    assert (code, "0 cells ran, 0 failed, 1 were finished before" in out) == (0, True)
    code, out = bench(*MINI, "--plan")
    assert "finished" in out and "0 of 1 cells would run" in out


@pytest.mark.slow
def test_redo_chooses_what_runs_again(bench, tmp_path):
    bench(*MINI)
    path = next(tmp_path.glob("results/custom/**/seed-0.json"))
    assert "1 of 1" in bench(*MINI, "--plan", "--redo", "all")[1]
    assert "0 of 1" in bench(*MINI, "--plan", "--redo", "failed")[1]
    record = results.read(path)
    results.write_cell(tmp_path / "results", record | {"status": "failed", "reason": "Error: x"})
    assert "0 of 1" in bench(*MINI, "--plan")[1], "a failure is a result: it is repeated on request only"
    assert "1 of 1" in bench(*MINI, "--plan", "--redo", "failed")[1]


@pytest.mark.slow
def test_cells_that_others_disturbed_are_measured_again_one_at_a_time(bench, tmp_path):
    bench(*MINI)
    path = next(tmp_path.glob("results/custom/**/seed-0.json"))
    record = results.read(path)
    again = (*MINI, "--redo", "disturbed")
    for share, runs in ((0.0, 0), (0.3, 1)):
        cost = record["cost"] | {"others_share": [0.0, share]}
        results.write_cell(tmp_path / "results", record | {"cost": cost})
        assert f"{runs} of 1" in bench(*again, "--jobs", "1", "--plan")[1]
    code, out = bench(*again, "--jobs", "2")
    assert code == 2 and "give --jobs 1" in out
    assert bench(*again, "--jobs", "1")[0] == 0
    anew = results.read(path)
    assert anew["matrices"] == record["matrices"] and anew["cost"]["others_share"] != [0.0, 0.3]


@pytest.mark.slow
def test_a_size_that_one_detector_cannot_take_stops_no_other(bench, tmp_path):
    asked = ("run", "--methods", "finetune", "--detectors", "padim,efficientad", "--scenario", "mini.yaml")
    code, out = bench(*asked, "--image-size", "48", "--device", "cpu")
    assert code == 2 and "efficientad needs images of 64 px or more, not 48" in out
    (table,) = (tmp_path / "results" / "tables").glob("*.md")
    assert "finetune" in table.read_text(), "the other is ranked"


@pytest.mark.slow
def test_a_detector_that_fails_is_a_row_and_the_others_are_measured(bench, tmp_path):
    stream = (tmp_path / "mini.yaml").read_text()
    (tmp_path / "one.yaml").write_text(
        re.sub(r"train: \d+", "train: 1", stream)
    )  # padim has no covariance of one image
    options = ("--set", "autoencoder.epochs=1", "--jobs", "1")
    code, out = bench(
        "run", "--methods", "finetune", "--detectors", "padim,autoencoder", "--scenario", "one.yaml", *options
    )
    assert code == 1 and "1 cells ran, 1 failed" in out and "finetune+padim seed 0: FAILED" in out
    status = {path.parent.name.split(",")[0]: results.read(path)["status"] for path in tmp_path.rglob("seed-0.json")}
    assert status == {"finetune+padim": "failed", "finetune+autoencoder": "ok"}


@pytest.mark.slow
def test_a_pair_that_makes_no_sense_is_a_row_with_its_reason(bench, tmp_path):
    code, out = bench("run", "--methods", "cl_patchcore", "--detectors", "autoencoder", "--scenario", "mini.yaml")
    assert code == 0 and "skipped: cl_patchcore needs a detector with memory_bank" in out
    assert "cl_patchcore needs a detector with memory_bank" in tables(tmp_path)
    fitting = re.search("^cl_patchcore fits (.*): give one of them with --detectors$", out, re.MULTILINE)[1].split(", ")
    assert "patchcore" in fitting and "autoencoder" not in fitting
    assert fitting == sorted(fitting, key=lambda name: (len(name), name))


@pytest.mark.slow
def test_a_crash_is_a_row_with_its_traceback_and_exit_code_1(bench, tmp_path):
    (tmp_path / "broken.py").write_text(
        '"""Breaks on purpose: to see its traceback."""\nfrom methods.finetune import Config, Setup, Strategy\n'
        "def build(config: Config, setup: Setup) -> Strategy:\n    raise RuntimeError('on purpose')\n"
    )
    code, out = bench(*MINI[:1], "--methods", "broken", "--plugin", "broken.py", *MINI[3:])
    assert code == 1 and "1 failed" in out
    assert "on purpose" in tables(tmp_path)
    assert "RuntimeError: on purpose" in bench("show", next(tmp_path.glob("results/custom/**/seed-0.json")))[1]


@pytest.mark.slow
def test_show_prints_the_matrix(bench):
    bench(*MINI)
    code, out = bench("show", "custom/mini/finetune+autoencoder*/seed-0")
    assert code == 0 and "image_auroc" in out and "gear" in out and "—" in out


@pytest.mark.slow
def test_csv_logger_writes_every_value(bench, tmp_path):
    bench(*MINI, "--logger", "csv")
    lines = next(tmp_path.glob("results/custom/**/*.log.csv")).read_text().splitlines()
    assert lines[0] == "step,metric,value" and any(line.startswith("1,image_auroc/gear,") for line in lines)


BAD = {
    "unknown method": (["--methods", "finetun"], "no method 'finetun'. Did you mean 'finetune'?"),
    "unknown detector": (["--detectors", "patchcor"], "Did you mean 'patchcore'?"),
    "unknown scenario": (["--scenario", "mvtec/10-1x6"], "mvtec/10-1x5"),
    "wrong version": (["--scenario", "synthetic/1x6@9"], "version"),
    "unknown option": (["--set", "autoencoder.epoch=3"], "no option of autoencoder 'epoch'. Did you mean 'epochs'?"),
    "option of an absent method": (["--set", "replay.memory=3"], "'replay'"),
    "malformed option": (["--set", "epochs=3"], "owner.option=value"),
    "option of another type": (["--set", "autoencoder.epochs=many"], "autoencoder.epochs='many' is str"),
    "text for a list, told before the data are missed": (
        ["--detectors", "patchcore", "--set", "patchcore.strides=8,16", "--scenario", "mvtec/3x5", "--data", "nowhere"],
        "write --set 'patchcore.strides=[8,16]'",
    ),
    "negative option": (["--set", "autoencoder.epochs=-1"], "autoencoder.epochs=-1 is negative"),
    "unknown order": (["--order", "sideways"], "random:SEED"),
    "unknown device": (["--device", "tpu"], "none that PyTorch can compute on"),
    "no data given": (["--scenario", "mvtec/3x5"], "--data"),
    "no such data folder": (["--scenario", "mvtec/3x5", "--data", "nowhere"], "nowhere"),
    "data is a file": (["--scenario", "mvtec/3x5", "--data", "mini.yaml"], "mini.yaml"),
    "absent weights": (["--detectors", "padim", "--weights", "none.safetensors"], "no weights 'none.safetensors'"),
    "weights of another network": (
        ["--detectors", "padim", "--weights", "odd.safetensors"],
        "name the right --backbone",
    ),
    "imagenet weights offline": (
        ["--detectors", "padim", "--weights", "imagenet", "--backbone", "resnet10t"],
        "--weights FILE",
    ),
    "unknown backbone": (
        ["--detectors", "padim", "--weights", "random", "--backbone", "resnet1000"],
        "no timm backbone",
    ),
    "backbone argument": (
        ["--detectors", "padim", "--weights", "random", "--backbone", "test_resnet:padding=odd"],
        "does not take",
    ),
    "unknown logger": (["--logger", "printer"], "csv, tensorboard, wandb"),
    "no plugin file": (["--plugin", "absent.py"], "no plugin file 'absent.py'"),
    "plugin that is none": (["--plugin", "empty.py"], "is no plugin"),
    "plugin of a taken name": (["--plugin", "finetune.py"], "two methods are called 'finetune'"),
    "class absent from the data": (["--scenario", "stray.yaml"], "no class 'gearbox'"),
    "no jobs": (["--jobs", "-1"], "argument --jobs: '-1' is no number of cells: give a whole number from 1"),
    "no threads": (["--threads", "0"], "argument --threads: '0' is no number of threads"),
    "no pixels": (["--image-size", "0"], "argument --image-size: '0' is no image size in px"),
    "negative pixels": (["--image-size", "-5"], "'-5' is no image size in px: give a whole number from 8 to 4096"),
    "absurd pixels": (["--image-size", "1000000"], "'1000000' is no image size in px"),
    "a seed twice": (["--seeds", "0,1,0"], "'0,1,0' names 0 twice"),
    "a negative seed": (["--seeds=-1"], "'-1' is not a list of whole numbers from 0"),
    "no seed": (["--seeds", ""], "'' is not a list of whole numbers from 0"),
    "too large a seed": (["--seeds", "4294967296"], "give numbers below 2**32"),
    "misspelt option": (["--sceanrio", "x"], "no argument '--sceanrio' (did you mean '--scenario'?)"),
    "misspelt choice": (["--size", "papr"], "no 'papr' (did you mean 'paper'?); there are tiny, paper"),
    "results folder is a file": (["--results", "mini.yaml"], "choose another folder with --results"),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_input_is_one_sentence_and_exit_code_2_before_any_training(case, bench, tmp_path, monkeypatch):
    (tmp_path / "stray.yaml").write_text(MANIFEST.replace("[gear]", "[gearbox]"))
    (tmp_path / "empty.py").write_text('"""Nothing."""\n')
    (tmp_path / "finetune.py").write_text((ROOT / "methods" / "finetune.py").read_text())
    save_file({"x": torch.zeros(1)}, tmp_path / "odd.safetensors")
    monkeypatch.setattr("bench.runner.run_cell", lambda *_, **__: pytest.fail("training was started"))
    arguments, wanted = BAD[case]
    code, out = bench(*BASE, *arguments)
    assert code == 2, out
    error = [line for line in out.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and wanted in error[0]
    assert "Traceback" not in out
    assert not list(tmp_path.glob("results/custom/**/*.json"))


@pytest.mark.parametrize("command", ["leaderboard", "show x", "compare a b", "report", "figure x", "score x"])
def test_a_misspelt_results_folder_is_not_made(command, bench, tmp_path):
    code, out = bench(*command.split(), "--results", "resluts")
    assert code == 2 and "no folder 'resluts' (did you mean 'results'?)" in out
    assert not (tmp_path / "resluts").exists() and not (tmp_path / "leaderboard.md").exists()


def test_a_misspelt_command_is_told_before_anything_else(bench):
    code, out = bench("leaderbord")
    assert code == 2 and out.startswith("error: argument COMMAND: no 'leaderbord' (did you mean 'leaderboard'?)")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_commands_and_their_options(shell):
    script = pytest.importorskip("shtab").complete(cli.parser(), shell)
    assert all(word in script for word in ("run", "--methods", "--detectors", "leaderboard", "--check"))


@pytest.mark.slow
def test_a_corrupt_cell_is_named_and_kept(bench, tmp_path):
    bench(*MINI)
    path = next(tmp_path.glob("results/custom/**/seed-0.json"))
    path.write_text(path.read_text()[:100])
    code, out = bench(*MINI)
    assert code == 2 and path.name in out and "--redo all" in out
    assert len(path.read_text()) == 100
    assert bench(*MINI, "--redo", "all")[0] == 0
    json.loads(path.read_text())


def test_two_runs_on_one_results_folder(bench, tmp_path):
    with results.lock(tmp_path / "results"):
        code, out = bench(*MINI)
    assert code == 2 and "in use by another run" in out and re.search(r"process \d+", out)


@pytest.mark.slow
def test_what_stops_a_run_leaves_its_table_and_a_dead_cell_its_steps(bench, tmp_path, monkeypatch):
    from bench.backends import pool

    here = pool.run_in_processes

    def dies(context, cells, root, *, on_event, **how):
        def stop(cell, event):
            if event.get("step") == 2:
                raise KeyboardInterrupt
            on_event(cell, event)

        with suppress(KeyboardInterrupt):
            here(context, cells, root, on_event=stop, **how)
        on_event(cells[0], {"done": ended, "reason": "the process ended with exit code -9"})

    monkeypatch.setattr(pool, "run_in_processes", dies)
    ended = "died"
    code, out = bench(*MINI)
    record = results.read(next(tmp_path.glob("results/custom/**/seed-0.json")))
    assert code == 1 and record["status"] == "failed" and "exit code -9" in record["reason"]
    assert record.steps_done == 1 and math.isfinite(record["matrices"]["image_auroc"][0][0])
    (tmp_path / "leaderboard.md").unlink()
    ended = "bad input"
    code, out = bench(*MINI, "--redo", "failed")
    assert code == 2 and "exit code -9" in out and (tmp_path / "leaderboard.md").is_file()


@pytest.mark.slow
def test_wandb_hears_of_every_value(bench, tmp_path, monkeypatch):
    heard, asked = [], []
    run = SimpleNamespace(log=lambda values, step: heard.append((step, *values)), finish=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **how: asked.append(how) or run))
    assert bench(*MINI, "--logger", "wandb")[0] == 0
    assert asked[0]["project"] == "continual-anomaly-bench" and (1, "image_auroc/gear") in heard
    monkeypatch.setitem(sys.modules, "wandb", None)  # not installed
    code, out = bench(*MINI, "--logger", "wandb", "--redo", "all")
    assert code == 2 and "--logger wandb: " in out and "WANDB_MODE=offline" in out


def test_interrupting_says_how_to_go_on(bench, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "_run", interrupt)
    code, out = bench(*MINI)
    (line,) = out.splitlines()
    assert code == 130 and line.startswith("stopped: the same command goes on from here") and "leaderboard.md" in line


def test_interrupting_the_imports_takes_one_line_and_leaves_nothing_on_the_screen(tmp_path):
    asked = [sys.executable, "-m", "bench", "run", "--methods", "finetune"]
    screen, stderr = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
    heard = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # a shell's background jobs inherit that it is ignored
    with subprocess.Popen(
        asked, stderr=stderr, cwd=tmp_path, env=environment, start_new_session=True, preexec_fn=heard
    ) as run:
        os.close(stderr)
        shown = os.read(screen, 4096)
        while b"importing libraries" not in shown:
            shown += os.read(screen, 4096)
        os.killpg(run.pid, signal.SIGINT)
        with suppress(OSError):  # the other end is closed
            while more := os.read(screen, 4096):
                shown += more
    os.close(screen)
    assert run.returncode == 130, shown
    assert shown.rpartition(b"\x1b[2K")[2] == b"stopped\r\n" and b"Traceback" not in shown
