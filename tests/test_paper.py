"""The paper kit: its tables are the leaderboard's numbers, its documents compile, its references are the files'."""

import re
import shutil
import subprocess

import pytest
from cells import cell

from bench import cli, results
from bench.errors import BadInput
from bench.render.paper import write_paper
from bench.render.paper.latex import escape_latex
from bench.render.paper.references import PAPER

LATEX = shutil.which("pdflatex") and shutil.which("bibtex")


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit")
    for seed in range(3):
        for method, final in (("cl_patchcore", 0.9), ("finetune", 0.5), ("replay", 0.7)):
            results.write_cell(folder / "results", cell(final + 0.01 * seed, 0.95, method=method, seed=seed))
    results.write_cell(folder / "results", cell(0.8, method="joint", capabilities=["reads_ahead"], variant="a_b=5%"))
    results.write_cell(folder / "results", cell(method="ewc", status="failed", reason="Oops"))
    write_paper(folder / "results", folder / "paper")
    return folder


def test_the_table_has_every_finished_row_best_first(kit):
    lines = [line for line in (kit / "paper" / "toy-1x3-1.tex").read_text().splitlines() if line.count("&") == 8]
    assert [line.split("$")[0].split("~")[0].split(" &")[0] for line in lines] == [
        "method", r"cl\_patchcore", r"joint (a\_b=5\%)", "replay", "finetune",
    ]  # fmt: skip
    assert r"0.910 $\pm$ 0.025" in lines[1] and r"\cite{arXiv:2403.15463}" in lines[1]
    assert lines[-1].split(" & ")[5] == r"0.440 $\pm$ 0.025"


def test_references_are_those_of_the_files_each_once(kit):
    text = (kit / "paper" / "references.bib").read_text()
    keys = re.findall(r"@\w+\{([^,]+),", text)
    assert len(keys) == len(set(keys)) and {"arXiv:2403.15463", "arXiv:2106.08265", "pytorch"} <= set(keys)
    assert "author = {Bugarin and others}" in text and "mvtec" not in keys


@pytest.mark.parametrize(
    "text,authors,title",
    [
        ("Roth et al., Towards Total Recall, arXiv:2106.08265.", "Roth et al.", "Towards Total Recall"),
        (
            "A, B and C. Mousakhan, Brox and Tayyub, Title: x, arXiv:2305.15956",
            "Mousakhan, Brox and Tayyub",
            "Title: x",
        ),
        ("Robins 1995; Chaudhry et al., On Tiny, arXiv:1902.10486", "Chaudhry et al.", "On Tiny"),
    ],
)
def test_papers_are_read_from_docstrings(text, authors, title):
    found = PAPER.search(text)
    assert (found["authors"], found["title"]) == (authors, title)
    rather_none = "Li et al., One Title (on Another, Li et al., arXiv:2104.04015)"
    assert not PAPER.search(rather_none)


def test_the_paragraph_tells_seeds_versions_and_data(kit):
    text = (kit / "paper" / "measured.tex").read_text()
    assert "All 10 runs" in text and "seeds 0, 1, 2" in text and "fingerprints 0123456789ab" in text
    assert "PyTorch 2.15.0" in text and "anomalib 2.7.0" in text


@pytest.mark.slow
def test_figures_come_as_pdf_and_svg_with_the_same_bytes_each_time(kit, tmp_path):
    write_paper(kit / "results", tmp_path / "again", methods=["finetune", "replay"])
    write_paper(kit / "results", tmp_path / "more", methods=["finetune", "replay"])
    for name in ("R", "steps", "carried", "stability"):
        for suffix in ("pdf", "svg"):
            first, second = (tmp_path / part / f"toy-1x3-1-{name}.{suffix}" for part in ("again", "more"))
            assert first.read_bytes() == second.read_bytes() and first.stat().st_size > 2000


def test_what_is_not_there_is_told(kit, tmp_path, capsys):
    with pytest.raises(BadInput, match=r"no finished row of the method 'ewc'.*there are finetune, replay"):
        write_paper(kit / "results", tmp_path / "x", methods=["ewc", "finetune", "replay"])
    assert cli.main(["paper", "--results", str(kit / "results"), "--scenario", "no", "--to", str(tmp_path / "x")]) == 2
    assert "no finished row" in capsys.readouterr().err


def test_text_is_escaped():
    assert escape_latex("a_b & 5 % {x} ±§") == r"a\_b \& 5 \% \{x\} $\pm$$^{\S}$"


@pytest.mark.skipif(not LATEX, reason="no LaTeX")
def test_the_document_compiles(kit):
    calls = (["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], ["bibtex", "paper"])
    for call in (calls[0], calls[1], calls[0], calls[0]):
        done = subprocess.run(call, cwd=kit / "paper", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    log = (kit / "paper" / "paper.log").read_text(errors="replace")
    assert "undefined" not in log
