"""`bench run --protocol` and `bench reproduce` on a tiny stream, in this process."""

import re
import shlex
from dataclasses import replace

import pytest

from bench import registry
from bench.schema import config
from bench.schema import protocol as protocols

PROTOCOL = """
version: 1
about: two rendered classes
scenarios: [mini.yaml]
seeds: [0]
orders: [published, reversed]
budget_mb: 5
detectors: {autoencoder: {epochs: 1}}
methods: {finetune: {}, replay: {memory: 3}}
"""


@pytest.mark.parametrize("found", protocols.shipped_protocols(), ids=lambda one: one.name)
def test_options_of_a_protocol_are_options_of_what_it_names(found):
    for kind, named in (("method", found.methods), ("detector", found.detectors)):
        for owner, options in named.items():
            made = config.resolve(owner, registry.find_entry(kind, owner).load(), found.size or "paper", options)
            assert replace(made) == made


@pytest.mark.slow
def test_a_run_under_a_protocol_ends_with_its_rows_and_is_run_again_by_the_printed_command(bench, tmp_path):
    (tmp_path / "own.yaml").write_text(PROTOCOL)
    code, out = bench("run", "--protocol", "own.yaml", "--plan")
    assert code == 0 and "4 of 4 cells would run." in out and "cost not known on" in out
    code, out = bench("run", "--protocol", "own.yaml", "--methods", "replay")
    assert code == 0 and "2 cells ran" in out, out
    assert "custom/mini@1 replay§ + autoencoder, 2 runs in order published, reversed" in out
    assert "within the protocol's 5 MB" in out and "no difference can be shown" in out
    code, out = bench("run", "--protocol", "own.yaml", "--plan")
    line = next(line for line in out.splitlines() if line.startswith("custom/mini finetune"))
    assert "2 of 4 cells would run." in out and "cost not known" in line
    code, out = bench("run", "--protocol", "own.yaml", "--methods", "replay", "--redo", "all", "--plan")
    assert re.search(r"seed 0: run; [<\d.]+ processor hours, [\d.]+ GB, [\d.]+ MB of disk \(2 cells like it\)", out)
    assert "2 of known cost" in out and "0 of unknown cost" in out
    for page in (tmp_path / "results" / "tables").glob("*.md"):
        command = next(line for line in page.read_text().splitlines() if line.startswith("python -m bench run"))
        code, out = bench(*shlex.split(command.replace(" --data DIR", ""))[3:], "--plan")
        assert code == 0 and "0 of 1 cells would run" in out, command


def test_a_plan_of_a_paper_needs_neither_data_nor_weights(bench):
    code, out = bench("reproduce", "cl_patchcore", "--plan")
    assert code == 0 and "mvtec/clad-10 cl_patchcore+patchcore seed 43: run" in out, out
    assert "differs from the paper:" in out and "image_auroc 0.970" in out and "Without --data" in out
    code, out = bench("reproduce", "cl_patchcore")
    assert code == 2 and "--data" in out
    code, out = bench("reproduce", "open-1x7-tokens", "--plan")
    assert code == 2 and "bench run --protocol open-1x7-tokens runs it" in out


@pytest.mark.slow
def test_a_reproduction_ends_with_measured_beside_printed(bench, tmp_path):
    (tmp_path / "own.yaml").write_text(f"{PROTOCOL}paper: somebody\ndiffers: [all of it]\n")
    code, out = bench("reproduce", "own.yaml", "--order", "published")
    assert code == 0 and "2 of 2 cells would run." in out and "2 cells ran" in out
    assert "nothing to compare with" in out


def test_a_protocol_on_weights_of_the_user_asks_for_them(bench):
    code, out = bench("run", "--protocol", "open-1x7-patchcore", "--data", ".")
    assert code == 2 and "give the file with --weights (sha256 c8e1a15a" in out
    assert bench("run")[1] == "error: nothing to compare: give --methods, or the --protocol that names them.\n"
