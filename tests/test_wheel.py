"""What is installed: the dependencies are those imported, and a wheel works where there is no clone."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from command import ROOT
from trees import MANIFEST

pytestmark = pytest.mark.slow

PACKAGES = ("bench", "methods", "scenarios")
NOT_IMPORTED = {"setuptools"}  # pyproject.toml says why
NOT_HERE = {
    "pynvml": "nvidia-ml-py",
    "ray": "ray",
    "submitit": "submitit",
    "wandb": "wandb",
}  # extras, which need not be installed


def imported() -> set[str]:
    """Top-level modules of others that the files of the wheel import, anywhere in them."""
    found = set()
    for path in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - set(PACKAGES)


def declared(section: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] if section == "" else project["optional-dependencies"][section]
    return {canonical(re.match(r"[\w.-]+", line)[0]) for line in lines}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_imported_is_declared_and_the_other_way_round():
    from_others, known = packages_distributions(), declared("")
    optional = set().union(*map(declared, ("gpu", "ray", "slurm", "wandb")))
    used = set()
    for module in imported():
        names = {canonical(name) for name in from_others.get(module, [NOT_HERE.get(module, module)])}
        assert names & (known | optional), f"{module} is imported, and none of {names} is declared in pyproject.toml"
        used |= names & known
    assert used | NOT_IMPORTED == known


def test_a_wheel_runs_outside_a_clone(tmp_path):
    source, site, here = (tmp_path / name for name in ("source", "site", "here"))
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True, text=True)
    with zipfile.ZipFile(next((source / "dist").glob("*.whl"))) as wheel:
        wheel.extractall(site)
    shutil.rmtree(source)
    here.mkdir()
    (here / "mini.yaml").write_text(MANIFEST)

    def bench(*arguments: str) -> str:
        given = os.environ | {"PYTHONPATH": str(site)}
        done = subprocess.run([sys.executable, *arguments], cwd=here, env=given, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert Path(bench("-c", "import bench; print(bench.__file__)").strip()).is_relative_to(site)
    what = ("--methods", "finetune", "--detectors", "autoencoder", "--scenario", "mini.yaml")
    assert "1 cells ran, 0 failed" in bench("-m", "bench", "run", *what, "--set", "autoencoder.epochs=1")
    assert "custom/mini@1" in (here / "leaderboard.md").read_text()
    assert "wrote" in bench("-m", "bench", "leaderboard")
    assert "ReplayCAD" in bench("-m", "bench", "published", "--dataset", "mvtec")
    bench("-m", "bench", "report")
    assert (here / "out" / "report" / "index.html").is_file()
    assert "mvtec/10-1x5@1" in bench("-m", "bench", "list", "scenarios")
