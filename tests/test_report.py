"""The report's numbers are the cell files', read back through the DOM; its pages stand alone and hold any text."""

import csv
import json
import math
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from bs4 import BeautifulSoup
from cells import cell
from scipy import stats

from bench import cli, results
from bench.analysis import ranks as ranking
from bench.analysis.figures import figures
from bench.analysis.summary import learned_at, stat
from bench.errors import BadInput
from bench.metrics import definitions
from bench.metrics.statistics import interval
from bench.published.data_sets import TEST_IMAGES
from bench.render import leaderboard, report
from bench.render.leaderboard.tables import score_text
from bench.render.report.charts import LEFT, RIGHT, WIDTH
from bench.render.report.field import ranked
from bench.schema.metric import summarised

ROOT = Path(__file__).parents[1]
EVIL = 'Traceback (most recent call last):\n  <module>\nRuntimeError: </pre></script><script>alert("1")</script> & <b>'
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
TUNED = "factor: the test set of toy/1x3"
IMAGENET = {"kind": "imagenet", "source": "wide_resnet50_2", "sha256": "cd" * 32}


def varied(seed=0, **given):
    """A cell with other numbers in every place of R."""
    made = cell(seed=seed, **given)
    rng = np.random.default_rng([seed, len(given["method"])])
    for R in made["matrices"].values():
        for t, row in enumerate(R):
            row[: t + 1] = rng.uniform(0.4, 1, t + 1).tolist()
    return made


def cells():
    ok = [varied(seed, method=method) for method in ("replay", "finetune", "ewc") for seed in range(3)]
    ok += [varied(method=method, detector="padim") for method in ("replay", "finetune", "ewc")]
    ok.append(varied(method="joint", capabilities=["reads_ahead"], weights=IMAGENET, variant="option=<i>"))
    bad = [cell(method="lwf", status="failed", reason=EVIL), cell(method="mas", status="partial")]
    ok[5]["code"] = None
    ok[3]["tuned_on"], ok[4]["tuned_on"] = [TUNED, "lr: a < b"], [TUNED]
    return [*ok, *bad, cell(method="cl_vae", status="skipped", reason="no <bank>", fingerprint="")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    for one in cells():
        results.write_cell(folder / "results", one)
    (folder / "results" / "toy" / "seed-9.json").write_text("{")
    report.write_report(folder / "results", folder / "site")
    return folder / "site"


def dom(site, page):
    return BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser")


def boards(site):
    """The pages of the ranked tables."""
    return [dom(site, path.relative_to(site)) for path in sorted((site / "boards").glob("*.html"))]


def rows_of(site, selector="table.ranking tbody tr"):
    return [row for board in boards(site) for row in board.select(selector)]


def page_of(site, name):
    return dom(site, f"systems/toy/1x3/{name}.html")


def embedded(page, name):
    return json.loads(page.find(id=name).string)


def nan_as_none(R):
    return [[None if math.isnan(value) else value for value in row] for row in R]


def test_the_leaderboard_has_every_score_of_every_row(site):
    rows = {}
    for one in cells():
        if one["status"] == "ok":
            rows.setdefault((one["spec"]["method"], one["spec"]["detector"]), []).append(one)
    lines = [line for line in rows_of(site) if not line.get("class")]
    assert len(lines) == len(rows) == 7
    for line in lines:
        members = rows[line.th.a.text.strip("†"), line["data-detector"]]
        assert line["data-key"] in {member["key"] for member in members}
        for metric in summarised():
            final, classes, lost, fresh = line.select(f'[data-m="{metric}"]')
            for found, name in ((final, "final"), (lost, "forgetting"), (fresh, "plasticity")):
                expected = stat(figures(member)[f"{name}_{metric}"] for member in members)
                assert float(found["data-v"]) == expected.mean and found.text == score_text(expected)
            expected = interval([member["matrices"][metric][-1] for member in members])
            assert classes.text == f"{expected.low:.2f} – {expected.high:.2f}"


def test_rows_of_other_weights_are_ranked_apart(site):
    assert [len(board.select(".board tbody tr")) for board in boards(site)] == [1, 8]
    assert (
        "Weights: imagenet" in boards(site)[0].text and len(dom(site, "index.html").select(".overview tbody tr")) == 2
    )


def test_unfinished_rows_have_a_status_and_no_number(site):
    told = {line.th.a.text: line for line in rows_of(site, "tr.unfinished")}
    assert told["mas"].select_one(".status").text == "partial: 2 of 3 steps"
    assert "RuntimeError: </pre>" in told["lwf"].select_one(".status").text
    assert {number["data-v"] for number in told["lwf"].select("td.n[data-v]")} == {""}


def test_a_system_embeds_what_its_files_hold(site):
    data = embedded(page_of(site, "replay+patchcore"), "cells")
    for run, seed in zip(data["runs"], range(3), strict=True):
        one = varied(seed, method="replay")
        assert run["matrices"] == {metric: nan_as_none(R) for metric, R in one["matrices"].items()}
        assert run["threshold"] == one["threshold"] and run["pooled"] == one["pooled"]
        assert run["cost"]["train_s"] == one["cost"]["train_s"] and run["learned_at"] == [0, 1, 2]


def test_a_system_has_every_definition_and_figure(site):
    page = page_of(site, "replay+patchcore")
    members = [varied(seed, method="replay") for seed in range(3)]
    rows = {row.th.text: row.find_all("td") for row in page.select("#definitions tbody tr")}
    assert list(rows) == list(definitions.ALL)
    for name, definition in definitions.ALL.items():
        for column, metric in enumerate(("image_auroc", "aupro")):
            values = [definitions.values(np.array(m["matrices"][metric]), learned_at(m))[name] for m in members]
            assert rows[name][column].text == score_text(stat(values))
        assert definition.formula in rows[name][2].text and definition.source in rows[name][3].text
    shown = {pair.dt.text: float(pair.dd["data-v"]) for pair in page.select("#figures div")}
    expected = {name: stat(figures(m)[name] for m in members).mean for name in figures(members[0])}
    expected |= {f"joint_minus_replay_{metric}": math.nan for metric in summarised()}  # no joint run with these weights
    assert shown == pytest.approx(expected, nan_ok=True)


def test_a_system_is_measured_against_the_joint_run_beside_it(tmp_path):
    for one in (cell(0.9, method="joint"), cell(metrics={"image_auroc": 0.75, "aupro": 0.7})):
        results.write_cell(tmp_path / "results", one)
    report.write_report(tmp_path / "results", tmp_path / "site")
    rows = {row.th.text: row for row in page_of(tmp_path / "site", "replay+patchcore").select("#definitions tbody tr")}
    assert [found.text for found in rows["joint_minus_replay"].find_all("td")[:2]] == ["0.150", "0.200"]
    assert "needs" not in rows["joint_minus_replay"].text


def test_a_published_number_stands_beside_what_its_definition_gives_here(tmp_path):
    """CADIC prints ReplayCAD's forgetting as joint minus replay; here that is 0.95 - 0.90."""
    paper = {"scenario": "mvtec/1x15", "size": "paper", "weights": IMAGENET, "detector": "invad"}
    for one in (cell(0.95, method="joint", **paper), cell(0.9, method="replaycad", **paper)):
        results.write_cell(tmp_path / "results", one)
    report.write_report(tmp_path / "results", tmp_path / "site")
    lines = [line.text for line in dom(tmp_path / "site", "published.html").select("tbody tr")]
    told = [line for line in lines if "joint_minus_replay" in line]
    assert told and all("0.050" in line for line in told)
    text = "\n".join(leaderboard.render(tmp_path / "results").values())
    told = [line for line in text.splitlines() if "| joint_minus_replay |" in line]
    assert told and all("| 0.050 | joint_minus_replay |" in line for line in told)


def test_what_settings_were_tuned_on_stands_on_the_page_and_beside_the_row(site):
    assert page_of(site, "finetune+patchcore").find(id="tuned").text == f"Tuned on: {TUNED}; lr: a < b"
    assert page_of(site, "replay+patchcore").find(id="tuned") is None
    marked = [line for line in rows_of(site, "tr:has(.tag)") if line.select_one(".tag").text == "tuned"]
    assert [(line.th.a.text, line["data-detector"]) for line in marked] == [("finetune", "patchcore")]
    assert marked[0].select_one(".tag")["title"] == f"{TUNED}; lr: a < b"


def test_a_traceback_with_markup_is_text(site):
    for page in (dom(site, "faults.html"), page_of(site, "lwf+patchcore")):
        assert page.select_one("details pre").text.strip() == EVIL
        assert all(script.get("src") or script["type"] == "application/json" for script in page.find_all("script"))
        assert not page.find("b")
    assert (
        dom(site, next(site.glob("systems/toy/1x3/joint+patchcore,option=-i-*.html")).relative_to(site)).h1.text
        == "joint+patchcore,option=<i>"
    )


def test_gaps_are_told_with_their_reasons(site):
    page = dom(site, "faults.html")
    assert [part.text for part in page.select("h2 small")] == ["1", "1", "1", "1"]
    assert "no <bank>" in page.text and "toy/seed-9.json is not a cell file" in page.text
    assert str(site.parent) not in page.text


def test_the_plot_of_carried_bytes_has_every_complete_row(site):
    boards = embedded(dom(site, "compare.html"), "fields")["boards"]
    points = {(p["method"], p["detector"]): p for board in boards for p in board["points"]}
    assert len(points) == 7 and not points["joint†", "patchcore"]["races"]
    assert sum(point["races"] for point in points.values()) > 1
    members = [figures(varied(seed, method="replay")) for seed in range(3)]
    found = points["replay", "patchcore"]
    assert found["scores"] == {m: stat(f[f"final_{m}"] for f in members).mean for m in summarised()}
    assert found["carried_mb"] == stat(f["carried_mb"] for f in members).mean


def test_the_diagram_is_friedmans_and_nemenyis(site):
    page = dom(site, "compare.html")
    contest = ranking.contest(cells())
    statistic, p = stats.friedmanchisquare(*contest.scores.T)
    assert f"chi-square = {statistic:.2f}, p = {p:.3g}" in page.text
    rows = [
        [part.text for part in row.find_all(["th", "td"])] for row in page.select("details table")[0].select("tbody tr")
    ]
    assert [row[:2] for row in rows] == [
        [name, f"{rank:.2f}"] for name, rank in zip(contest.names, contest.ranking.ranks, strict=True)
    ]
    leads = [re.match(r"M([\d.]+) ", path["d"])[1] for path in page.select_one("svg").select("path.lead")]
    unit = (WIDTH - LEFT - RIGHT) / 2
    assert [float(x) for x in leads] == pytest.approx([LEFT + (r - 1) * unit for r in contest.ranking.ranks], abs=0.1)
    assert "2 blocks: below 10" in page.text


def test_published_numbers_stand_beside_measured_ones(tmp_path):
    names = list(TEST_IMAGES["mvtec"])
    paper = {"scenario": "mvtec/1x15", "classes": names, "steps": [[n] for n in names], "size": "paper"}
    for seed in range(3):
        one = cell(0.7, method="finetune", seed=seed, image_size=256, weights=IMAGENET, **paper)
        one["cost"]["eval_images"][-1] = 1725.0
        results.write_cell(tmp_path / "results", one)
    report.write_report(tmp_path / "results", tmp_path / "site")
    row = dom(tmp_path / "site", "published.html").select_one("tbody tr")
    texts = [part.text for part in row.find_all(["th", "td"])]
    assert texts[:5] == ["finetune + patchcore", "FT PatchCore", "image AUROC", "0.700 ± 0.000", "0.602"]
    assert texts[5].startswith("off by +0.098") and row.select_one(".verdict.off")


def test_every_link_stays_in_the_site_and_leads_somewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == 6 + 9 + 2 + len(list(site.glob("methods/*.html")))
    for path in pages:
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        links = [tag.get("href") or tag.get("src") for tag in page.select("[href], [src]")]
        assert len(links) > 5
        for link in links:
            if link not in ("#main", "data:,"):
                assert (path.parent / unquote(link)).resolve().is_relative_to(site.resolve())
                assert (path.parent / unquote(link)).is_file(), f"{path.name} links to {link}"
    for asset in (site / "assets").iterdir():
        if asset.name != "plotly.min.js":
            assert "http" not in asset.read_text(encoding="utf-8")


def test_pages_can_be_used_without_a_mouse_or_eyes(site):
    for path in site.rglob("*.html"):
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        assert page.html["lang"] == "en" and page.title.text and len(page.find_all("h1")) == 1 and page.main
        for control in page.select("select, input"):
            assert page.select_one(f'label[for="{control["id"]}"]')
        assert all(region["tabindex"] == "0" and region["aria-label"] for region in page.select(".scroll"))
        assert all(plot["aria-label"] for plot in page.select(".plot"))
        assert all(head.get("scope") for head in page.find_all("th"))


def test_the_package_brings_its_templates_and_assets():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["bench"]
    packed = {path for pattern in declared for path in (ROOT / "bench").glob(pattern)}
    folder = ROOT / "bench" / "render" / "report"
    assert {path for name in ("templates", "assets") for path in (folder / name).iterdir()} <= packed


def test_the_command_writes_the_site_and_refuses_an_empty_folder(tmp_path, capsys):
    results.write_cell(tmp_path / "results", cell(status="failed", reason="Oops"))
    assert cli.main(["report", "--results", str(tmp_path / "results"), "--out", str(tmp_path / "site")]) == 0
    assert str(tmp_path / "site" / "index.html") in capsys.readouterr().out
    assert "Oops" in dom(tmp_path / "site", "faults.html").text
    with pytest.raises(BadInput, match="no results in"):
        report.write_report(tmp_path / "nothing", tmp_path / "site")


def rendered(url, profile):
    """The DOM after the scripts have run."""
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --allow-file-access-from-files --virtual-time-budget=10000"
    flags += " --dump-dom"
    command = [BROWSER, *flags.split(), f"--user-data-dir={profile}", url]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return BeautifulSoup(text, "html.parser")


@pytest.mark.skipif(not BROWSER, reason="no Chromium")
def test_a_browser_draws_the_matrix_and_the_plots(site, tmp_path):
    page = rendered((site / "systems/toy/1x3/finetune+padim.html").as_uri(), tmp_path)
    R = varied(method="finetune", detector="padim")["matrices"]["image_auroc"]
    shown = [[part.text for part in row.find_all("td")[:3]] for row in page.select("#heat tbody tr")]
    assert shown == [["—" if math.isnan(v) else f"{v:.3f}" for v in row] for row in R]
    assert all(plot.select_one("svg.main-svg") for plot in page.select(".plot"))


@pytest.mark.skipif(not BROWSER, reason="no Chromium")
def test_a_browser_filters_and_sorts(site, tmp_path):
    board = sorted((site / "boards").glob("*procedural*.html"))[0].as_uri()
    page = rendered(f"{board}#detector=patchcore&metric=aupro&columns=line&search=patch", tmp_path)
    rows = [row for row in page.select(".board tbody tr") if not row.has_attr("hidden")]
    values = [row.select_one('[data-m="aupro"]')["data-v"] for row in rows if not row.get("class")]
    assert {row["data-detector"] for row in rows} == {"patchcore"} and len(values) == 3
    assert values == sorted(values, key=float, reverse=True)
    assert page.find(id="count").text == f"{len(rows)} of 8 rows" and page.find(id="nothing").has_attr("hidden")
    assert all(part.has_attr("hidden") for part in page.select('[data-m="image_auroc"], [data-g="cost"]'))
    assert not any(part.has_attr("hidden") for part in page.select('[data-g="line"]'))
    assert not rendered(f"{board}#search=nonesuch", tmp_path).find(id="nothing").has_attr("hidden")


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """The site of the committed results."""
    folder = tmp_path_factory.mktemp("committed")
    report.write_report(ROOT / "results", folder)
    return folder


@pytest.mark.slow
def test_no_page_weighs_a_megabyte_and_no_name_in_a_table_is_long(committed):
    pages = sorted(committed.rglob("*.html"))
    assert max(path.stat().st_size for path in pages) < 1e6
    for path in [*committed.glob("*.html"), *committed.glob("boards/*.html"), *committed.glob("methods/*.html")]:
        for link in dom(committed, path.relative_to(committed)).select("tbody th a"):
            assert len(link.text) <= 70, (path.name, link.text)  # 40 of a row, its detector, or a scenario's title


FRAMES = """<body><script>
for (const [page, width] of %s) {
  const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:900px`;
  frame.onload = () => setTimeout(() => {
    const inside = frame.contentDocument, root = inside.documentElement, told = document.createElement("p");
    const scores = [...inside.querySelectorAll("table tbody tr:first-child td.n")].filter((cell) => cell.offsetParent);
    const right = scores[0].getBoundingClientRect().right;
    told.textContent = JSON.stringify({ page, width, wide: root.scrollWidth, view: root.clientWidth, score: right });
    document.body.append(told);
  }, 300);
  frame.src = page;
  document.body.append(frame);
}
</script>"""


@pytest.mark.skipif(not BROWSER, reason="no Chromium")
def test_scores_are_in_sight_at_every_width_and_no_page_scrolls_sideways(committed, tmp_path):
    pages = ["index.html", *(path.relative_to(committed).as_posix() for path in committed.glob("boards/*.html"))]
    pages += ["methods/finetune.html"]
    frames = [(page, width) for page in pages for width in (390, 1024, 1440)]
    (committed / "frames.html").write_text(FRAMES % json.dumps(frames))
    told = [json.loads(line.text) for line in rendered((committed / "frames.html").as_uri(), tmp_path).select("p")]
    assert len(told) == len(frames)
    for one in told:
        assert one["wide"] <= one["view"] and one["score"] <= one["view"], one


def test_the_first_page_draws_every_measured_row_by_tier(site):
    drawing = dom(site, "index.html").select_one(".field svg")
    board = boards(site)[1]
    points = {point.title.text.partition(":")[0] for point in drawing.select("a")}
    measured = [row for row in board.select(".board tbody tr") if not row.get("class")]
    assert points == {f"{row.th.a.text} + {row['data-detector']}" for row in measured}
    assert len(drawing.select("circle.t1, path.t2, circle.few, path.out")) == len(measured)


def test_the_line_joins_ranked_rows_and_without_any_those_of_too_few_runs():
    assert ranked(["1", "2", "1 run", "reads ahead"]) == {"1", "2"}
    assert ranked(["1 run", "2 runs", "external", "failed"]) == {"1 run", "2 runs"}
    assert ranked(["external"]) == set()


@pytest.mark.skipif(not BROWSER, reason="no Chromium")
def test_two_systems_stand_beside_each_other_class_by_class(site, tmp_path):
    page = rendered((site / "compare.html").as_uri(), tmp_path)
    points = max((board["points"] for board in embedded(page, "fields")["boards"]), key=len)
    first, second, *_ = sorted(points, key=lambda point: -point["scores"]["image_auroc"])
    shared = first["runs"].keys() & second["runs"].keys()
    scores = [np.mean([system["runs"][run] for run in shared], axis=0) for system in (first, second)]
    shown = [[part.text for part in row.find_all("td")] for row in page.select("#duel tbody tr")]
    told = zip(*scores, strict=True)
    assert shown[1:] == [[f"{a:.3f}", f"{b:.3f}", f"{a - b:.3f}"] for a, b in told]
    assert shown[0][2] == f"{scores[0].mean() - scores[1].mean():.3f}"
    assert f"compare '{first['system']}' '{second['system']}' --scenario" in page.select_one("#duel-command").text


def test_a_table_is_there_as_csv_too(site):
    path = sorted((site / "boards").glob("*procedural*.csv"))[0]
    lines = list(csv.DictReader(path.read_text().splitlines()))
    rows = boards(site)[1].select(".board tbody tr")
    assert [(line["method"], line["detector"]) for line in lines] == [
        (row.th["data-v"], row["data-detector"]) for row in rows
    ]
    assert lines[0]["final_image_auroc"] == rows[0].select_one('[data-m="image_auroc"]')["data-v"]
    assert {line["status"] for line in lines} > {"ok"} and "=" not in {line["method"][0] for line in lines}


def test_bars_start_at_chance(site):
    row = next(row for row in rows_of(site) if not row.get("class"))
    auroc, ap = (row.select_one(f'[data-m="{metric}"]') for metric in ("image_auroc", "image_ap"))
    assert auroc["style"] == f"--v:{max(2 * float(auroc['data-v']) - 1, 0):.4f}"
    assert ap["style"] == f"--v:{float(ap['data-v']):.4f}"


def test_a_method_has_a_page_with_its_source_its_rows_and_what_papers_print(site):
    page = dom(site, "methods/replay.html")
    assert "python -m bench run --methods replay" in page.select_one("pre").text
    rows = [row.text for row in page.select('[aria-label^="toy"] tbody tr')]
    assert len(rows) == 2 and any("on padim" in row for row in rows)
    printed = page.select('[aria-label="Printed figures"] tbody tr')
    assert any("PatchCore+replay100" in row.text for row in printed)
    assert "arXiv:2403.15463" in dom(site, "methods/cl_patchcore.html").select_one(".about").text
    about = dom(site, "methods/cadic.html").select_one(".about")
    assert "reservoir" in [code.text for code in about.select("code")] and "`" not in about.text
    assert dom(site, "methods.html").find("a", string="replay")["href"] == "methods/replay.html"


def test_rows_of_older_code_are_tagged(site):
    tagged = [row for row in rows_of(site) if "older code" in row.get_text()]
    assert [row.th.a.get_text() for row in tagged] == ["finetune"]
