"""The leaderboard is a pure function of the cell files: what may share a table, what has a mean, what is shown."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from cells import cell
from scipy.stats import t

from bench import cli, results
from bench.analysis.figures import figures
from bench.analysis.groups import sections
from bench.analysis.identity import surroundings
from bench.analysis.labels import last_line
from bench.analysis.orders import across_orders
from bench.analysis.summary import classes_of, stat
from bench.errors import BadInput
from bench.metrics.statistics import interval
from bench.published.data_sets import TEST_IMAGES
from bench.render import leaderboard
from bench.render.show import show

IMAGENET = {"kind": "imagenet", "source": "wide_resnet50_2.tv_in1k", "sha256": "cd" * 32}
PAPER = {
    "scenario": "mvtec/1x15",
    "classes": list(TEST_IMAGES["mvtec"]),
    "steps": [[name] for name in TEST_IMAGES["mvtec"]],
    "size": "paper",
    "image_size": 256,
    "weights": IMAGENET,
}


def page(tmp_path, *cells):
    for made in cells:
        results.write_cell(tmp_path / "results", made)
    return texts(tmp_path / "results")


def texts(root):
    """The front page and the pages of all sections, one after the other."""
    return "\n".join(text for path, text in leaderboard.render(root).items() if path.suffix == ".md")


def table_of(root):
    return leaderboard.render(root)[root / "leaderboard.csv"]


def row_of(text, start, table=0):
    """Cells of the `table`-th line of a table that starts with `start`."""
    lines = [line for line in text.splitlines() if line.startswith((f"| {start} ", f"| {start}<br>"))]
    return [part.strip() for part in lines[table].strip("|").split(" | ")]


def by_heading(text: str, start: str) -> dict[str, str]:
    """{heading: cell} of the row that starts so."""
    return dict(zip(row_of(text, "detector"), row_of(text, start), strict=True))


def test_a_codec_that_is_worse_than_the_plain_filter_is_named(tmp_path):
    made = [cell(method="scale", detector=name) for name in ("inpaint", "padim")]
    for one, decoded in zip(made, (24.5, 26.0), strict=True):
        one["notes"] = {"memory_psnr": [30.0, 29.0, decoded], "memory_psnr_lanczos": [25.0, 25.0, 25.4]}
    text = page(tmp_path, *made, cell())
    assert "- scale on inpaint: 24.5 dB, Lanczos' filter alone 25.4 dB" in text
    assert "scale on padim: 26" not in text


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_interval_is_scipys(n):
    values = np.random.default_rng(n).normal(0.8, 0.05, n)
    low, high = t.interval(0.95, n - 1, values.mean(), values.std(ddof=1) / np.sqrt(n))
    found = stat(values)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high), abs=1e-6)
    assert found.n == n


def test_one_seed_has_no_interval_and_a_missing_value_no_mean():
    assert stat([0.5])[0] == 0.5 and np.isnan(stat([0.5]).half)
    assert np.isnan(stat([0.5, float("nan")]).mean) and np.isnan(stat([]).mean)


def test_figures_of_a_cell():
    found = figures(cell(0.5, 0.9, device="Some GPU", holdout=0.2))
    assert found["final_image_auroc"] == pytest.approx(0.5)
    assert found["forgetting_image_auroc"] == pytest.approx(0.4) and found["bwt_aupro"] == pytest.approx(-0.4)
    assert found["plasticity_image_auroc"] == pytest.approx((0.9 + 0.9 + 0.5) / 3)
    assert found["step_average_image_auroc"] == pytest.approx((0.9 + (0.5 + 0.9) / 2 + 0.5) / 3)
    assert found["threshold_drift"] == pytest.approx(2.0) and np.isnan(found["routing_accuracy"])
    assert found["train_images_per_s"] == pytest.approx(50) and found["images_per_s"] == pytest.approx(500)
    assert found["evaluation_share"] == pytest.approx(0.2) and found["carried_mb"] == pytest.approx(3)
    assert found["gpu_allocated_mb"] == pytest.approx(2) and np.isnan(found["energy_j"])


def test_a_metric_that_was_not_measured_is_missing():
    made = cell(0.5)
    made["matrices"] = {"image_auroc": made["matrices"]["image_auroc"]}
    made["pooled"] = made["threshold"] = {}
    found = figures(made)
    assert found["final_image_auroc"] == pytest.approx(0.5)
    missing = ("final_aupro", "forgetting_aupro", "pooled_image_auroc", "threshold_f1", "threshold_drift")
    assert all(np.isnan(found[name]) for name in missing)


def test_seeds_of_one_configuration_are_one_row(tmp_path):
    text = page(tmp_path, *(cell(0.7 + 0.1 * seed, 0.95, seed=seed) for seed in range(3)))
    half = t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    row = row_of(text, "replay")
    assert row[1:3] == ["3 runs", f"0.800 ± {half:.3f}"] and row[4] == f"0.150 ± {half:.3f}"
    assert row[6:] == ["3.00", "3"]


def test_rows_are_sorted_by_final_image_auroc(tmp_path):
    made = [cell(value, method=f"m{value}") for value in (0.6, 0.9, 0.7)]
    text = page(tmp_path, *made, cell(method="m1", status="failed", reason="Oops"))
    places = [text.index(f"| m{name}") for name in ("0.9", "0.7", "0.6", "1")]
    assert places == sorted(places)


def test_the_first_screen_has_all_but_private_images_and_says_what_is_older(tmp_path):
    root = tmp_path / "results"
    streams = [("factory7/1x7", 1), ("synthetic/1x6", 1), ("synthetic/1x6", 2), ("custom/mine", 1)]
    for seed, (scenario, version) in enumerate(streams):
        results.write_cell(root, cell(0.9, scenario=scenario, scenario_version=version, seed=seed))
    front = leaderboard.render(root)[tmp_path / "leaderboard.md"]
    first, _, listed = front.partition("## Every table")
    found = [line.partition("]")[0] for line in first.splitlines() if line.startswith("| [")]
    assert found == ["| [custom/mine@1", "| [synthetic/1x6@2", "| [synthetic/1x6@1"] and "[factory7/1x7@1" in listed
    assert "Images of factory7 are not published" in first
    assert first.count("is an older version") == 1 and "synthetic/1x6@1 is an older version" in first


@pytest.mark.parametrize(
    "other",
    [
        {"weights": IMAGENET},
        {"weights": {"kind": "procedural", "source": "features.safetensors", "sha256": "ff" * 32}},
        {"backbone": "other_net"},
        {"fingerprint": "fedcba9876543210"},
        {"order": "reversed"},
        {"image_size": 128},
        {"size": "paper"},
        {"metric_version": 2},
        {"scenario_version": 2},
    ],
)
def test_what_cannot_be_compared_shares_no_table(tmp_path, other):
    text = page(tmp_path, cell(0.9, method="here"), cell(0.8, method="there", **other))
    tables = [part for part in text.split("\n\n") if part.startswith("|") and "seeds" in part.splitlines()[0]]
    assert len(tables) >= 7 and not any("here " in part.replace("there", "") and "there" in part for part in tables)
    blocks = [
        (part.splitlines()[0], line)
        for part in text.split("\n# ")[2:]
        for line in part.splitlines()
        if line.startswith(("### ", "<details><summary>patchcore"))
    ]
    assert len(blocks) == len(set(blocks)) == 2  # the headings say what differs


def test_random_weights_of_other_seeds_are_one_configuration(tmp_path):
    kinds = [{"kind": "random", "source": f"seed {seed}", "sha256": f"{seed}" * 64} for seed in range(2)]
    text = page(tmp_path, *(cell(seed=seed, weights=kind) for seed, kind in enumerate(kinds)))
    assert row_of(text, "replay")[-1] == "2"


def test_rows_that_would_read_alike_say_what_differs(tmp_path):
    first, second = cell(0.9), cell(0.8, method_config={"per_class": 20}, variant="per_class=20")
    assert "| replay (per_class=20) " in page(tmp_path, first, second)
    third = cell(0.7, seed=1, backbone_arguments={"pad_type": "same"})
    text = page(tmp_path, third)
    assert "| replay (backbone_arguments={}) " in text
    assert ": replay (backbone_arguments={'pad_type': 'same'})\n" in text, "too long for a table: told in a fold"


def test_capabilities_are_marked(tmp_path):
    made = [cell(method="joint", capabilities=["reads_ahead"]), cell(method="single", capabilities=["task_oracle"])]
    text = page(tmp_path, *made)
    assert "| joint†" in text and "| single‡" in text and "† ‡" in text


def test_failures_are_rows(tmp_path):
    reason = "Traceback (most recent call last):\n  File\nRuntimeError: shapes <4> | `5`"
    text = page(tmp_path, cell(0.9, seed=0), cell(status="failed", reason=reason, seed=1))
    good, bad = row_of(text, "replay"), row_of(text, "replay", 1)
    assert good[1:3] == ["1 of 2 seeds", "0.900"] and good[-2:] == ["1", "ok"]
    assert (
        bad[1] == "failed"
        and set(bad[2:7]) == {"—"}
        and bad[-2:] == ["seed 1", r"**failed** `RuntimeError: shapes <4> \| '5'`"]
    )
    assert "1 ok, 1 failed" in text


def test_incomplete_cells_get_no_mean(tmp_path):
    partial = cell(0.9, status="partial")
    gap = cell(0.8, method="gap")
    gap["matrices"]["image_auroc"][2][0] = float("nan")
    text = page(tmp_path, partial, gap)
    assert set(row_of(text, "replay")[2:7]) == {"—"} and row_of(text, "replay")[-1] == "**partial** 2 of 3 steps"
    assert row_of(text, "gap")[1:6] == ["incomplete", "—", "—", "—", "0.800"]
    line = csv_of(tmp_path)["replay"]
    assert line["status"] == "partial" and line["final_image_auroc"] == line["train_s"] == ""


def csv_of(tmp_path):
    lines = csv.DictReader(io.StringIO(table_of(tmp_path / "results")))
    return {line["method"]: line for line in lines}


def test_skipped_pairs_have_their_reason(tmp_path):
    pairs = [{"method": "cl_patchcore", "detector": name} for name in ("vae", "autoencoder")]
    text = page(
        tmp_path, cell(), *(cell(status="skipped", reason="no memory bank", fingerprint="", **p) for p in pairs)
    )
    assert "Skipped pairs and why: 2" in text
    assert row_of(text, "cl_patchcore") == ["cl_patchcore", "autoencoder, vae", "no memory bank"]
    assert "### autoencoder" not in text
    assert csv_of(tmp_path)["cl_patchcore"]["reason"] == "no memory bank"


def test_a_corrupt_file_is_reported_and_the_rest_shown(tmp_path):
    path = results.write_cell(tmp_path / "results", cell(seed=1))
    path.write_text("{")
    text = page(tmp_path, cell())
    assert "- toy/1x3/replay+patchcore/seed-1.json is not a cell file" in text and str(tmp_path) not in text
    assert row_of(text, "replay")[2] == "0.900"


def test_costs_have_a_table_per_device(tmp_path):
    made = [cell(seed=0), cell(seed=1, device="Some GPU"), cell(method="finetune")]
    text = page(tmp_path, *made)
    assert row_of(text, "replay")[6] == "3.00"
    assert "several devices (Some GPU, cpu)" in text
    gpu = text.split("<summary>Cost on Some GPU</summary>")[1].split("</details>")[0]
    cpu = text.split("<summary>Cost on cpu</summary>")[1].split("</details>")[0]
    told = by_heading(gpu, "patchcore")
    assert [told[f"GPU {name}"] for name in ("allocated MB", "reserved MB", "use")] == ["2.00", "3.00", "50.0 %"]
    assert "finetune" not in gpu and cpu.count("| patchcore") == 2
    assert "GPU" not in by_heading(cpu, "patchcore"), "a column that tells nothing is left out"


def test_pooled_and_threshold_table(tmp_path):
    held = cell(method="cl_patchcore", holdout=0.2)
    part = page(tmp_path, held).split("<summary>One threshold")[1]
    row = row_of(part, "patchcore")
    assert row[1:] == ["cl_patchcore", "0.800", "0.800", "0.700", "0.600", "0.840", "5.0 %", "2.00", "80.0 %", "1"]


def test_a_threshold_set_on_images_that_were_trained_on_is_not_shown(tmp_path):
    part = page(tmp_path, cell(method="cl_patchcore")).split("<summary>One threshold")[1]
    assert row_of(part, "patchcore")[1:] == ["cl_patchcore", "0.800", "0.800", "80.0 %", "1"]
    assert "F1 at threshold" not in by_heading(part, "patchcore")


def seven(method, scores, **given):
    """Cells of seven classes, a seed per row of `scores` (runs, 7)."""
    names = [str(i) for i in range(7)]
    made = [cell(method=method, seed=k, classes=names, steps=[[n] for n in names], **given) for k in range(len(scores))]
    for one, row in zip(made, scores, strict=True):
        one["matrices"]["image_auroc"][-1] = list(row)
    return made


def around(mean, seed, runs=3):
    rng = np.random.default_rng(seed)
    return mean + rng.normal(0, 0.01, (runs, 7))


def test_the_overview_shows_tiers_and_what_the_design_can_show(tmp_path):
    made = seven("replay", around(0.8, 0)) + seven("ewc", around(0.799, 1)) + seven("finetune", around(0.5, 2))
    made += seven("joint", around(0.95, 3), capabilities=["reads_ahead"])
    made += seven("cumulative", around(0.9, 4), capabilities=["unlimited_memory"])
    text = page(tmp_path, *made)
    tiers = {name: row_of(text, name)[1] for name in ("replay", "ewc", "finetune", "joint†", "cumulative∞")}
    best, other, last, *bounds = tiers.values()
    assert (best, other, last, bounds) == ("1", "1", "2", ["reads ahead", "unlimited memory"])
    front = row_of(text, "[toy/1x3@1](results/tables/toy-1x3-1.md)")
    assert set(front[1].removesuffix(" on patchcore").split(", ")) == {"replay", "ewc"} and front[-1] == "3"
    assert front[5].startswith("± 0.0") and "cannot be shown with these runs" in text


def test_a_method_whose_third_seed_failed_is_not_ranked(tmp_path):
    made = seven("replay", around(0.8, 0)) + seven("ewc", around(0.7, 1)) + seven("lucky", around(0.95, 2))
    names = made[0]["spec"]["classes"]
    steps = made[0]["spec"]["steps"]
    made[-1] = cell(method="lucky", seed=2, classes=names, steps=steps, status="failed", reason="Oops")
    text = page(tmp_path, *made)
    assert row_of(text, "lucky")[1] == "2 of 3 seeds"
    assert row_of(text, "[toy/1x3@1](results/tables/toy-1x3-1.md)")[1] == "replay on patchcore"


def test_a_bound_is_the_best_of_no_table_and_of_no_budget(tmp_path):
    """`cumulative`, which keeps every image, once counted as the best method."""
    made = seven("ewc", around(0.7, 0)) + seven("cumulative", around(0.95, 1), capabilities=["unlimited_memory"])
    made += seven("single", around(0.97, 2), capabilities=["task_oracle"])
    text = page(tmp_path, *made)
    assert row_of(text, "[toy/1x3@1](results/tables/toy-1x3-1.md)")[1] == "highest: ewc (not shown) on patchcore"
    lines = text[text.index("By memory budget") :].splitlines()
    best = {
        line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines if line.startswith(("| ≤", "| unl"))
    }
    assert best["unlimited"].startswith("cumulative") and best["≤ 10 MB"].startswith("ewc")
    assert not any("single" in name for name in best.values())


def test_one_run_shows_nothing(tmp_path):
    text = page(tmp_path, *seven("replay", around(0.9, 0, 1)), *seven("ewc", around(0.4, 1, 1)))
    assert row_of(text, "ewc")[1] == "1 run" and "highest: replay (not shown)" in text
    assert "No difference can be" in text


def test_above_joint_only_where_it_is_shown(tmp_path):
    joint = seven("joint", around(0.8, 0), capabilities=["reads_ahead"])
    near = seven("replay", around(0.802, 1) + np.linspace(-0.1, 0.1, 7))
    assert "shown above joint" not in page(tmp_path / "near", *joint, *near)
    assert "shown above joint" not in page(tmp_path / "one", *joint[:1], *seven("replay", around(0.95, 1, 1)))
    text = page(tmp_path / "far", *joint, *seven("replay", around(0.95, 1)))
    assert "Methods shown above joint in their own table: 1<" in text


def test_a_detector_that_hardly_learns_everything_at_once_says_so_below_its_table(tmp_path):
    config = {"detector_config": {"epochs": 3}}
    weak = cell(method="joint", final=0.6, metrics={"pixel_auroc": 0.8}, **config)
    text = page(tmp_path / "weak", weak, cell(final=0.7, **config))
    told = "this detector reaches 0.600 image AUROC only, its maps 0.800 pixel AUROC**: at 64 px, size tiny and "
    assert told + "procedural weights after 3 epochs it hardly learns" in text
    for name, other in {"joint": cell(method="joint", final=0.66), "none": cell(final=0.6)}.items():
        assert "hardly learns" not in page(tmp_path / name, other)


def test_what_strangers_wrote_renders_as_itself(tmp_path):
    evil = "<img src=x onerror=alert(1)>[x](javascript:alert(1))"
    made = cell(method="replay", variant=evil)
    other = cell(method="replay", variant="=cmd|' /C calc'!A0", method_config={"per_class": 2})
    text = page(tmp_path, made, other)
    assert "<img" not in text and "[x](javascript" not in text
    variants = [line["variant"] for line in csv.DictReader(io.StringIO(table_of(tmp_path / "results")))]
    assert "'=cmd|' /C calc'!A0" in variants


def test_a_long_label_is_shortened_and_told_in_a_fold(tmp_path):
    options = ",".join(f"option{i}=value{i}" for i in range(20))
    text = page(tmp_path, cell(variant=options), cell(method_config={"per_class": 2}))
    names = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| replay")]
    assert names and max(map(len, names)) <= 40
    assert "Shortened options in full" in text and "option19=value19" in text


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c["matrices"].update(image_auroc="x"),
        lambda c: c.update(cost=[]),
        lambda c: c["cost"].update(carried_bytes="many"),
        lambda c: c.update(capabilities=None),
        lambda c: c.update(threshold={"value": 3}),
    ],
)
def test_a_malformed_cell_is_named_and_left_out(tmp_path, damage):
    good, bad = cell(0.9), cell(0.8, method="bad")
    results.write_cell(tmp_path / "results", good)
    path = results.write_cell(tmp_path / "results", bad)
    made = json.loads(path.read_text())
    damage(made)
    path.write_text(json.dumps(made))
    assert cli.main(["leaderboard", "--results", str(tmp_path / "results")]) == 1
    text = (tmp_path / "leaderboard.md").read_text()
    assert "left out: 1" in text and "bad+patchcore/seed-0.json" in text and "replay" in text


def scored(values, order="published", **spec):
    """A cell whose classes end with `values`, in the stream's order."""
    names = {"published": "abc", "reversed": "cba", "random:0": "bac"}[order]
    made = cell(order=order, classes=list(names), steps=[[name] for name in names], **spec)
    made["matrices"]["image_auroc"][-1] = values
    return made


def test_joint_minus_replay_is_taken_from_the_joint_run_beside_a_run(tmp_path):
    made = [scored([0.95, 0.90, 0.85], method="joint", method_config={}), scored([0.90, 0.60, 0.75])]
    made += [scored([0.5] * 3, seed=1), scored([0.5] * 3, method="ewc", detector_config={"coreset": 0.5})]
    made += [scored([0.5] * 3, method="lwf", image_size=32), scored([0.5] * 3, "reversed", method="mas")]
    page(tmp_path, *made)
    found = {
        (line["method"], line["seed"]): (line["joint_minus_replay_image_auroc"], line["joint_minus_replay_pixel_ap"])
        for line in csv.DictReader(io.StringIO(table_of(tmp_path / "results")))
    }
    by_hand = (0.95 + 0.90 + 0.85) / 3 - (0.90 + 0.60 + 0.75) / 3
    assert by_hand == pytest.approx(0.15)
    assert tuple(map(float, found.pop(("replay", "0")))) == pytest.approx((0.15, 0))
    assert len(found) == 5 and set(found.values()) == {("", "")}, "another seed, setting, size or order is no reference"


def test_a_text_to_image_model_is_the_method_s_own_unless_the_detector_has_it():
    spec = cell(0.8)["spec"]
    assert surroundings({**spec, "method_prior": "ab"}) == surroundings(spec)
    assert surroundings({**spec, "detector_prior": "ab"}) != surroundings({**spec, "detector_prior": "cd"})


def test_joint_minus_replay_stands_among_the_other_metrics(tmp_path):
    main, more = page(tmp_path, cell(0.9, method="joint"), cell(0.75)).split("Every other metric")
    assert "joint minus it, image AUROC" in more and "joint minus it, image AUROC" not in main
    assert row_of(more, "patchcore | replay")[-3:] == ["0.150", "0.150", "1"]
    assert row_of(more, "patchcore | joint")[-3:] == ["—", "—", "1"]


def test_of_several_joint_runs_the_better_one_is_the_reference():
    made = [scored([final] * 3, method="joint", method_config={"memory": i}) for i, final in enumerate((0.8, 0.9, 0.7))]
    made.append(scored([0.6] * 3))
    rows = {row.spec["method"]: row for section in sections(made) for row in section.rows}
    assert rows["replay"].stat("joint_minus_replay_image_auroc").mean == pytest.approx(0.3)
    assert np.isnan(rows["joint"].stat("joint_minus_replay_image_auroc").mean)


def test_the_interval_beside_the_mean_is_over_seeds_and_classes(tmp_path):
    values = np.random.default_rng(0).uniform(0.5, 1, (3, 3))
    text = page(tmp_path, *(scored(list(row), seed=seed) for seed, row in enumerate(values)))
    _, low, high = interval(values)
    assert row_of(text, "replay")[3] == f"{low:.2f} – {high:.2f}"


def test_several_orders_are_joined_by_class_name(tmp_path):
    made = [scored([0.9, 0.8, 0.7]), scored([0.5, 0.8, 0.9], "reversed"), cell(method="finetune")]
    found = across_orders(sections(made))
    assert [(line.system, line.runs) for line in found] == [("replay + patchcore", 2)]
    assert found[0].by_order == pytest.approx({"published": 0.8, "reversed": 2.2 / 3})
    assert found[0].auroc.mean == pytest.approx(np.mean([0.8, 2.2 / 3]))
    joined = interval([[0.9, 0.8, 0.7], [0.9, 0.8, 0.5]], ["published", "reversed"])
    assert found[0].interval == pytest.approx(joined)
    text = page(tmp_path, *made)
    (line,) = [line for line in text.splitlines() if "published 0.800, reversed 0.733" in line]
    assert "±" not in line and line.split("|")[6].strip() == "—", "two orders tell no interval"
    third = page(tmp_path / "three", *made, scored([0.6, 0.8, 0.9], "random:0"))
    (line,) = [line for line in third.splitlines() if "published 0.800, random:0" in line]
    assert "0.767 ± 0.083" in line
    assert "Over class orders" not in page(tmp_path / "one", made[0], made[2])


def test_many_detectors_are_folded_away_under_a_table_of_the_best(tmp_path):
    made = [
        cell(0.5 + 0.02 * i + 0.1 * (method == "replay"), method=method, detector=f"d{i}")
        for i in range(12)
        for method in ("finetune", "replay")
    ]
    text = page(tmp_path, *made)
    assert [row_of(text, f"d{i}")[2] for i in range(12)] == [f"highest: replay (not shown) on d{i}" for i in range(12)]
    best = [line.split()[1] for line in text.splitlines() if line.startswith("| d") and "highest: replay " in line]
    assert best[:12] == [f"d{i}" for i in range(12)][::-1]
    assert "\n### " not in text and text.count("<details><summary>d") == 12


def test_the_same_cells_give_the_same_bytes(tmp_path):
    made = [cell(0.4 + 0.05 * i, 0.9, method=f"m{i % 4}", seed=i, detector=f"d{i % 3}") for i in range(12)]
    first, second = tmp_path / "a" / "results", tmp_path / "b" / "results"
    for one in made:
        results.write_cell(first, one)
    for one in reversed(made):
        results.write_cell(second, one)
    leaderboard.write_leaderboard(first)
    markdown, table, *_ = leaderboard.write_leaderboard(second)
    assert markdown == tmp_path / "b" / "leaderboard.md" and table == second / "leaderboard.csv"
    assert markdown.read_bytes() == (tmp_path / "a" / "leaderboard.md").read_bytes()
    assert table.read_bytes() == (first / "leaderboard.csv").read_bytes()
    assert sections(made)[0].title == sections(made[::-1])[0].title


@pytest.mark.parametrize(
    ("names", "pages", "shown"),
    [
        (("results", "trial"), ("leaderboard.md", "leaderboard-trial.md"), "0.900"),
        (("one", "two"), ("leaderboard-one.md", "leaderboard-two.md"), "mine"),
    ],
)
def test_two_results_folders_side_by_side_have_two_pages(tmp_path, names, pages, shown):
    (tmp_path / "README.md").write_text("<!-- table toy/1x3 patchcore replay -->\nmine\n<!-- /table -->\n")
    for name, final in zip(names, (0.9, 0.6), strict=True):
        results.write_cell(tmp_path / name, cell(final))
        leaderboard.write_leaderboard(tmp_path / name)
    first, second = (tmp_path / page for page in pages)
    assert "0.900" in first.read_text() and "0.600" in second.read_text()
    assert shown in (tmp_path / "README.md").read_text()


def test_what_was_written_is_told_as_the_folder_was_named(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("<!-- table toy/1x3 patchcore replay -->\nmine\n<!-- /table -->\n")
    results.write_cell(tmp_path / "elsewhere" / "trial", cell(0.9))
    (tmp_path / "results").symlink_to(tmp_path / "elsewhere" / "trial")
    monkeypatch.chdir(tmp_path / "elsewhere")
    told = [str(path) for path in leaderboard.write_leaderboard(Path("../results"))]
    assert told == ["../leaderboard.md", "../results/leaderboard.csv", "../results/tables", "../README.md"]
    absolute = leaderboard.write_leaderboard(tmp_path / "elsewhere" / "trial")
    assert absolute[0] == tmp_path / "elsewhere" / "leaderboard-trial.md"
    assert all(path.exists() for path in absolute) and "0.900" in (tmp_path / "README.md").read_text()
    with pytest.raises(BadInput, match=r"no result in trial/toy counts, .* Give the whole one"):
        leaderboard.write_leaderboard(Path("trial/toy"))
    monkeypatch.chdir(tmp_path / "elsewhere" / "trial")
    assert str(leaderboard.write_leaderboard(Path())[0]) == "../leaderboard-trial.md"


def test_the_readme_has_its_rows_and_its_picture(tmp_path):
    asked = "<!-- table toy/1x3 patchcore replay,joint -->\nold\n<!-- /table -->\n"
    asked += "<!-- matrices toy/1x3 replay+patchcore,ewc+patchcore,none+patchcore docs/R.svg -->\n"
    (tmp_path / "README.md").write_text(asked)
    for seed, final in ((0, 0.6), (1, 0.8)):
        results.write_cell(tmp_path / "results", cell(final, 0.9, seed=seed))
    results.write_cell(tmp_path / "results", cell(0.5, method="ewc"))
    leaderboard.write_leaderboard(tmp_path / "results")
    rows = [line for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("| ")]
    assert [row.split()[1] for row in rows] == ["method", "replay"]
    assert (tmp_path / "README.md").read_text().count("<!-- /table -->") == 1
    drawn = ElementTree.parse(tmp_path / "docs" / "R.svg")
    texts = [part.text for part in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "replay on patchcore: ends at 0.70" in texts and "ewc on patchcore: ends at 0.50" in texts
    assert texts.count(".90") == 2 and texts.count(".70") == 4, "the mean over seeds; untested classes are empty"
    assert leaderboard.check_leaderboard(tmp_path / "results") == ""
    (tmp_path / "docs" / "R.svg").write_text("other")
    assert "R.svg is not what" in leaderboard.check_leaderboard(tmp_path / "results")


def test_a_failure_names_the_line_of_the_plugin():
    reason = (
        'Traceback (most recent call last):\n  File "/x/bench/wall/child.py", line 9, in main\n'
        '  File "/x/mine.py", line 12, in predict\n  File "/x/site-packages/torch/nn.py", line 3, in f\nValueError: odd'
    )
    assert last_line(reason) == "mine.py:12: ValueError: odd"
    assert last_line("needs a detector with memory_bank") == "needs a detector with memory_bank"


def test_what_was_odd_about_the_images_stands_on_the_page_and_in_the_row(tmp_path):
    odd = "3 defects are too small to leave a pixel of their mask at 64 px, first: a|b.png"
    told = page(tmp_path, cell() | {"data": [odd]}, cell(seed=1) | {"data": [odd]})
    assert told.count("- data: 3 defects are too small") == 1
    assert f"data: {odd}" in show("toy/1x3/replay+patchcore/0", tmp_path / "results")


def test_check_tells_a_stale_page(tmp_path):
    root = tmp_path / "results"
    results.write_cell(root, cell())
    assert "leaderboard.md is not what" in leaderboard.check_leaderboard(root)
    markdown, table, *_ = leaderboard.write_leaderboard(root)
    assert leaderboard.check_leaderboard(root) == ""
    assert markdown.read_text().startswith("<!-- Generated by `python -m bench leaderboard`")
    table.write_text(table.read_text().replace("0.9,", "0.95,"))
    assert "leaderboard.csv is not what" in leaderboard.check_leaderboard(root)
    leaderboard.write_leaderboard(root)
    results.write_cell(root, cell(seed=1))
    assert "python -m bench leaderboard" in leaderboard.check_leaderboard(root)


def test_no_results_yet(tmp_path):
    assert "python -m bench run" in texts(tmp_path)


def test_it_is_light(tmp_path):
    """Neither PyTorch nor SciPy nor pandas, nor the seconds of CPU that one of them would take to import."""
    for i in range(60):
        results.write_cell(tmp_path / "results", cell(0.8, seed=i % 3, method=f"m{i // 3}", **PAPER))
    code = """if True:
        import json, sys, time
        from pathlib import Path
        from bench import published, results
        from bench.render import leaderboard, show
        from bench.published import lint
        leaderboard.write_leaderboard(Path(sys.argv[1]))
        heavy = {"torch", "avalanche", "anomalib", "scipy", "pandas"} & sys.modules.keys()
        print(json.dumps([time.process_time(), sorted(heavy)]))"""
    command = [sys.executable, "-c", code, tmp_path / "results"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    runs = [subprocess.run(command, check=True, capture_output=True, text=True, env=environment) for _ in range(3)]
    seconds, heavy = zip(*(json.loads(run.stdout) for run in runs), strict=True)
    assert heavy == ([], [], [])
    assert min(seconds) < 2  # the least disturbed one


@pytest.mark.parametrize("code", [None, {"method": "of another day"}])
def test_rows_of_older_code_are_marked(tmp_path, code):
    old, new = cell(method="replay"), cell(method="finetune")
    old["code"] = code and old["code"] | code
    text = page(tmp_path, old, new)
    assert row_of(text, "replay°") and row_of(text, "finetune") and "° measured with older code" in text
    assert "older code" not in page(tmp_path / "other", new)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"environment": {"versions": {"torch": "1.13.0"}}}, "torch 1.13.0 and 2.15.0"),
        ({"environment": {"versions": {"timm": "0.9"}}}, ""),  # the other does not tell its own: nothing is known
        ({"code": {"detector": "of another day"}}, "the code of detector"),
        ({"code": {"bench": "0.0.1"}}, "the code of bench"),
        ({"environment": {"cpu": "Another CPU"}}, ""),
    ],
)
def test_seeds_of_other_versions_are_told(tmp_path, change, told):
    first, second = cell(0.5, seed=0), cell(0.6, seed=1)
    for one in (first, second):
        one["environment"]["versions"] = {"torch": "2.15.0"}
    for part, other in change.items():
        second[part] = second[part] | other
    text = page(tmp_path, first, second)
    assert ("≠ its seeds were measured with different versions" in text) == bool(told)
    assert (f"- replay + patchcore: {told}" in text) == bool(told)


def test_a_class_with_normal_test_images_only_has_no_share_in_the_ranking(tmp_path):
    made = [scored([0.9, 0.1, 0.7], seed=seed) for seed in range(3)]
    for one in made:
        for R in one["matrices"].values():
            for row in R:
                row[1] = np.nan
    text = page(tmp_path, *made)
    assert row_of(text, "replay")[2].startswith("0.800")
    assert "image metrics over 2 of 3 classes: those with anomalous test images" in text
    under_way = made[0] | {"status": "partial"}
    assert classes_of(under_way, "image_auroc") == ["a", "b", "c"], "of a cell under way nobody knows"
