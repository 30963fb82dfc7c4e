"""README and docs: each command runs or says what it needs, each link leads somewhere, each number has its cell."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from bench import cli, registry
from bench.schema import protocol, stream

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
OWN = {"thumbnails", "mean_image", "my_method"}  # plugins that the pages themselves show or make
BENCH = re.compile(r"^(?:\S*/)?(?:python -m bench|bench)(?: |$)")


def commands(page: Path) -> list[str]:
    """Every call of the bench in the page's shell blocks, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [BENCH.sub("", part) for part in parts if BENCH.match(part)]


ALL = [(page.relative_to(ROOT).as_posix(), command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize("page,command", ALL)
def test_a_command_of_the_docs_parses_and_names_what_there_is(page, command, tmp_path, monkeypatch):
    for folder in ("out/results", "results"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    options = cli.parser().parse_args(shlex.split(command, comments=True))
    methods, detectors = (set(registry.found_entries(kind)) | OWN | {"all"} for kind in ("method", "detector"))
    for named, known in ((getattr(options, "methods", ()), methods), (getattr(options, "detectors", ()), detectors)):
        assert set(named or ()) <= known
    if name := getattr(options, "protocol", None):
        assert name.endswith(".yaml") or protocol.load_protocol(name)
    given = getattr(options, "scenario", ()) or ()
    for name in [given] if isinstance(given, str) else given:
        assert name.endswith(".yaml") or stream.load_stream(name)
    named = [*(getattr(options, "systems", ()) or ()), *filter(None, [getattr(options, "cell", None)])]
    for method, detector in re.findall(r"(\w+)\+(\w+)", " ".join(named)):
        assert method in methods and detector in detectors


# What a command needs that no test has; it is parsed only. The first that fits counts.
NEEDS = {
    "a cluster": r"--backend",
    "a GPU": r"--size paper",
    "a data set": r"\bDIR\b|data/VisA|data download",
    "pretrained weights": r"\bFILE\b|\bFILE\.safetensors|\bWEIGHTS\b",
}
# Those that train run at a small size elsewhere, and so do those that take seconds.
ELSEWHERE = {
    "run": "test_cli.py",
    "reproduce": "test_reproduce.py",
    "check": "test_check.py",
    "advise": "test_advise.py",
    "figure": "test_figure.py",
    "score": "test_stored.py",
    "verify": "test_verify.py",
    "submit": "test_submissions.py",
    "worker": "test_worker.py",
    "doctor": "test_doctor.py",
    "report": "test_report.py",
    "paper": "test_paper.py",
    "compare thumbnails": "test_compare.py",
}


def here(command: str) -> bool:
    """Whether a command runs in this file: it needs nothing that is not in the clone, and takes no time."""
    if any(re.search(needed, command) for needed in NEEDS.values()):
        return False
    return not any(command.startswith(word) for word in ELSEWHERE)


@pytest.mark.parametrize("page", sorted({page for page, command in ALL if here(command)}))
def test_the_commands_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "results", tmp_path / "results")
    shutil.copytree(ROOT / "results", tmp_path / "out" / "results")
    monkeypatch.chdir(tmp_path)
    for command in filter(here, commands(ROOT / page)):
        assert cli.main(shlex.split(command, comments=True)) == 0, command
        assert capsys.readouterr().out


@pytest.mark.parametrize("command", ELSEWHERE)
def test_a_command_that_does_not_run_here_is_called_in_the_test_that_is_named(command):
    text = (ROOT / "tests" / ELSEWHERE[command]).read_text()
    assert f'"{command.split()[0]}"' in text
    assert any(written.startswith(command) for _, written in ALL)


def test_what_is_no_command_of_ours_is_known():
    ours = r"(?:\S*/)?(?:python3? -m (?:bench|venv|pytest)|bench|pip|python -m pytest) |source |your-program |\$EDITOR "
    for page in PAGES:
        blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
        lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
        told = [part.strip() for line in lines for part in line.partition(" # ")[0].split("&&")]
        for part in filter(None, told):
            assert part.startswith("#") or re.match(ours, f"{part} "), f"{page.name}: {part}"


def test_the_pages_have_commands():
    assert len(ALL) > 30 and {"README.md", "docs/tutorial.md", "docs/own-line.md"} <= {page for page, _ in ALL}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path = target.partition("#")[0]
        assert target.startswith(("http", "#")) or (page.parent / path).exists(), target


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text()
    assert all(f"(docs/{page.name})" in text for page in PAGES if page.parent.name == "docs")


def test_the_table_of_the_readme_is_the_one_of_its_page():
    asked = re.compile(r"<!-- table (\S+) \S+ (\S+) -->\n(.*?)\n<!-- /table -->", re.DOTALL)
    stream, methods, block = asked.search((ROOT / "README.md").read_text()).groups()
    names = f"{stream.replace('/', '-')}-*.md"
    pages = [path.read_text() for path in sorted((ROOT / "results" / "tables").glob(names))]
    told = {tuple(part.strip() for part in line.split("|")) for line in "\n".join(pages).splitlines()}
    rows = [tuple(part.strip() for part in line.split("|")) for line in block.splitlines() if "---" not in line]
    assert len(rows) == 1 + len(methods.split(",")) and set(rows) <= told, "run `python -m bench leaderboard`"
