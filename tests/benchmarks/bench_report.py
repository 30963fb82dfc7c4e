"""How long the report of 500 cells takes to write, how large its pages are, how fast a browser shows them.

PYTHONPATH=.:tests python tests/benchmarks/bench_report.py [CELLS]. On two busy CPU cores, Chromium 156 from files: 500
cells in 338 pages, 19 MB in all, 6 s of CPU; the slowest page (compare.html) loads in 2.1 s, the leaderboard in 0.7 s.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice, product
from pathlib import Path

import numpy as np
from cells import cell

from bench import results
from bench.render import leaderboard, report

METHODS = ("finetune", "joint", "replay", "cl_patchcore", "ewc", "lwf", "mas", "si", "der", "agem", "cumulative")
STREAMS = {"mvtec/1x15": 15, "synthetic/1x6": 6}
PROBE = """<iframe style="width:1400px;height:900px"></iframe><pre></pre><script>
const frame = document.querySelector("iframe"), start = performance.now();
frame.onload = () => document.querySelector("pre").textContent = `LOADED ${Math.round(performance.now() - start)}`;
frame.src = "%s";
</script>"""
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync --timeout=20000 --dump-dom"


def synthetic(count: int):
    """Cells that forget at the rate of their method, for every detector and seed."""
    rng = np.random.default_rng(0)
    grid = product(STREAMS.items(), (f"detector_{i:02d}" for i in range(18)), METHODS, range(3))
    for (scenario, width), detector, method, seed in islice(grid, 0, None, max(1, 2 * 18 * 11 * 3 // count)):
        names = [f"class_{i:02d}" for i in range(width)]
        made = cell(
            scenario=scenario, classes=names, steps=[[n] for n in names], detector=detector, method=method, seed=seed
        )
        age = np.arange(width)[:, None] - np.arange(width)
        for metric in made["matrices"]:
            R = 0.9 - 0.02 * METHODS.index(method) * age / width + rng.normal(0, 0.02, age.shape)
            made["matrices"][metric] = np.where(age >= 0, R, np.nan).tolist()
        yield made


def load_ms(page: Path) -> int:
    """Milliseconds until a fresh browser has loaded and drawn a page."""
    with tempfile.TemporaryDirectory() as profile:
        probe = Path(profile, "probe.html")
        probe.write_text(PROBE % page.resolve().as_uri())
        command = ["chromium", *FLAGS.split(), f"--user-data-dir={profile}/user", probe.as_uri()]
        dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(re.search(r"LOADED (\d+)", dump)[1])


def timed(what: str, function, *arguments):
    wall, cpu = time.perf_counter(), time.process_time()
    function(*arguments)
    print(f"{what}: {time.perf_counter() - wall:.1f} s, of them {time.process_time() - cpu:.1f} s of CPU")


def main(count: int) -> None:
    folder = Path(tempfile.mkdtemp())
    made = list(islice(synthetic(count), count))
    for one in made:
        results.write_cell(folder / "results", one)
    print(f"{len(made)} cells")
    timed("leaderboard", leaderboard.write_leaderboard, folder / "results")
    timed("report", report.write_report, folder / "results", folder / "site")
    pages = sorted((folder / "site").rglob("*.html"), key=lambda path: -path.stat().st_size)
    total = sum(path.stat().st_size for path in (folder / "site").rglob("*") if path.is_file())
    print(f"{len(pages)} pages, {total / 1e6:.1f} MB in all")
    for page in [p for p in pages if p.parent == folder / "site"] + [p for p in pages if p.parent != folder / "site"][
        :2
    ]:
        shown = f", loaded in {load_ms(page)} ms" if shutil.which("chromium") else ""
        print(f"  {page.relative_to(folder / 'site')}: {page.stat().st_size / 1e3:.0f} kB{shown}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
