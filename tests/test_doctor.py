"""`bench doctor`: what it says where something is missing, and that it asks no network."""

import socket
import tempfile
from pathlib import Path

import pytest
from huggingface_hub import constants

from bench import cli
from bench.cli import doctor


def examine(folder, data=None) -> dict[str, list[str]]:
    """Sentences by level."""
    found = doctor.examine(folder / "results", folder / "cache", data)
    assert all(sentence.endswith(".") for _, sentence in found)
    return {
        level: [text for held, text in found if held == level] for level in (doctor.OK, doctor.SLOW, doctor.MISSING)
    }


def test_without_network_and_weights_it_names_who_would_fetch_what(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "nothing"))
    found = examine(tmp_path)
    assert not found["missing"]
    told = "\n".join(found["slow"])
    assert "timm/wide_resnet50_2.racm_in1k is not at hand: cfa, " in told and "take --weights FILE" in told
    assert "CompVis/ldm-text2im-large-256 is not at hand: replaycad" in told and "--set replaycad.model=FOLDER" in told
    held = tmp_path / "nothing" / "models--timm--resnet18.a1_in1k" / "snapshots" / "1"
    held.mkdir(parents=True)
    (held / "model.safetensors").write_bytes(b"weights")
    assert "timm/resnet18.a1_in1k is at hand, for stfpm." in examine(tmp_path)["ok"]
    assert not list(tmp_path.glob("results")), "it only looks"


def test_a_full_disk_stops_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("wb"))  # noqa: SIM115
    told = examine(tmp_path)["missing"]
    assert len(told) == 2 and "results takes no files for results (No space left on device)" in told[0]


def test_an_unsupported_torch_is_told_with_what_to_install(tmp_path, monkeypatch, capsys):
    held = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "2.4.0" if name == "torch" else held(name))
    assert 'torch 2.4.0 is not supported: pip install "torch>=2.11".' in examine(tmp_path)["missing"]
    assert cli.main(["doctor", "--results", str(tmp_path)]) == 1
    assert "1 to mend before a run." in capsys.readouterr().out


def test_a_torch_that_cannot_be_imported_is_told_and_the_rest_too(tmp_path, monkeypatch):
    def broken(name):
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    found = examine(tmp_path)
    assert "cannot be imported: OSError: libcudart.so.13" in found["missing"][0] and len(found["ok"]) > 3


@pytest.mark.parametrize(("there", "code"), [(True, 0), (False, 1)])
def test_the_exit_code_says_whether_a_run_would_go(there, code, tmp_path, capsys):
    data = tmp_path / "data"
    if there:
        data.mkdir()
    assert cli.main(["doctor", "--results", str(tmp_path), "--cache", str(tmp_path), "--data", str(data)]) == code
    assert ("does not exist" in capsys.readouterr().out) == (not there)
