"""Protocols and what is made of them without running anything: requests, verdicts, estimates, outcomes, commands."""

import re
from pathlib import Path

import pytest
from cells import cell

from bench import registry
from bench.analysis.estimate import estimate
from bench.analysis.groups import sections
from bench.data.counts import counts
from bench.errors import BadInput
from bench.published import Published
from bench.published.data_sets import TEST_IMAGES
from bench.published.protocols import set_as_in_a_paper
from bench.render.leaderboard.commands import commands
from bench.render.verdicts import beside_paper, printed, verdicts
from bench.schema import protocol as protocols
from bench.schema import stream
from bench.schema.record import Record
from bench.schema.request import Cell, Request

OWN = """
version: 1
about: a test
scenarios: [toy/1x3, toy/2x3]
image_size: 32
seeds: [0, 1]
orders: [published, reversed]
detectors: {patchcore: {patches: 7}, padim: {}}
methods: {replay: {memory: 3, quota: x}, finetune: {}}
"""
CLASSES = "abcdef"


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    return protocols.load_protocol(str(path))


@pytest.mark.parametrize("found", protocols.shipped_protocols(), ids=lambda one: one.name)
def test_a_protocol_names_what_there_is(found):
    assert {registry.find_entry("method", method).name for method in found.methods} == found.methods.keys()
    assert {registry.find_entry("detector", detector).name for detector in found.detectors} == found.detectors.keys()
    for scenario in found.scenarios:
        for order in found.orders:
            stream.reorder(stream.load_stream(scenario), order)
    assert bool(found.paper) == bool(found.differs), "a paper's protocol says what is otherwise here"
    assert bool(found.weights) == bool(found.weights_sha256)


def test_a_protocol_becomes_the_request_that_its_rows_were_run_with(own):
    asked = own.request({})
    assert asked["methods"] == ("replay", "finetune") and asked["orders"] == ("published", "reversed")
    assert asked["overrides"] == {"replay": {"memory": 3, "quota": "x"}, "patchcore": {"patches": 7}}
    assert "size" not in asked, "left to the stream"
    mine = own.request({"methods": ("mine",), "seeds": (1,), "detectors": ("padim",), "overrides": {"mine": {"x": 1}}})
    assert (mine["methods"], mine["seeds"], mine["image_size"]) == (("mine",), (1,), 32)
    assert mine["overrides"] == {"mine": {"x": 1}}, "what is not run has no options"
    other = own.request({"methods": ("replay",), "overrides": {"replay": {"memory": 9}}})
    assert other["overrides"]["replay"] == {"memory": 9, "quota": "x"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"image_size": 64}, "--image-size is fixed by protocol own"),
        ({"seeds": (0, 5)}, "5 is none of the seeds of protocol own: 0, 1"),
        ({"detectors": ("vae",)}, "vae is none of the detectors of protocol own: patchcore, padim"),
        ({"overrides": {"patchcore": {"patches": 8}}}, "--set patchcore... is fixed by protocol own"),
    ],
)
def test_what_a_protocol_fixes_is_refused(own, given, told):
    with pytest.raises(BadInput, match=re.escape(told)):
        own.request(given)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (OWN.replace("image_size: 32", "image_size: large"), "image_size: "),
        (OWN.replace("image_size", "imagesize"), "imagesize"),
        (OWN.replace("seeds: [0, 1]", "seeds: []"), "seeds"),
        ("- a list", "it holds no keys"),
        ("version: [", "is no protocol"),
    ],
)
def test_a_protocol_that_does_not_hold_together_is_told(tmp_path, text, told):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(BadInput, match=told):
        protocols.load_protocol(str(tmp_path / "own.yaml"))


def test_an_unknown_protocol_is_told_with_the_nearest():
    with pytest.raises(BadInput, match="Did you mean 'replaycad'"):
        protocols.load_protocol("replaycat")


def test_options_of_a_papers_protocol_are_no_reason_not_to_compare():
    spec = cell(
        scenario="mvtec/clad-10", method="cl_patchcore", detector="patchcore", size="paper",
        variant="cl_patchcore.patches=30000,patchcore.neighbors=3,image_size=224",
    )["spec"]  # fmt: skip
    assert set_as_in_a_paper(spec)
    assert not set_as_in_a_paper(spec | {"variant": f"{spec['variant']},holdout=0.2"})
    assert not set_as_in_a_paper(spec | {"scenario": "mvtec/1x15"})
    assert any("0.970" in line and "aupro" not in line for line in printed(protocols.load_protocol("cl_patchcore")))
    assert printed(protocols.load_protocol("scale")) == ["no number that could be read"]


def test_measured_stands_beside_printed_with_its_verdict():
    def made(seed: int, variant: str) -> dict:
        one = cell(
            0.965, scenario="mvtec/clad-10", method="cl_patchcore", detector="patchcore", size="paper", image_size=224,
            weights={"kind": "imagenet", "source": "wide_resnet50_2", "sha256": None}, variant=variant, seed=seed,
        )  # fmt: skip
        one["cost"]["eval_images"][-1] = sum(TEST_IMAGES["mvtec"][name] for name in one["spec"]["classes"])
        return one

    row = Published(
        "some paper", "primary", "ten objects", "mvtec/clad-10", "mvtec", "macro over classes", "image_auroc",
        "PatchCore (CL-30000)", 0.97, None, "", "224", "",
    )  # fmt: skip
    as_printed = "cl_patchcore.patches=30000,patchcore.neighbors=3,image_size=224"
    mine, others = ([made(seed, variant) for seed in range(3)] for variant in (as_printed, "image_size=224"))
    found = sections([*mine, *others])
    told = beside_paper(found, {one["key"] for one in mine}, [row])
    assert "0.965" in told and "within 0.02" in told
    assert "not comparable: options image_size=224" in beside_paper(found, {one["key"] for one in others}, [row])
    assert "not comparable: 2 of at least 3 seeds" in beside_paper(sections(mine[:2]), {mine[0]["key"]}, [row])
    assert "nothing to compare with" in beside_paper(found, {"another"}, [row])


def run_of(method: str, score: float, order: str, seed: int, **more) -> dict:
    names = list(CLASSES if order == "published" else CLASSES[::-1])
    made = cell(score, method=method, method_config={}, order=order, classes=names, steps=[[n] for n in names],
                seed=seed, **more)  # fmt: skip
    made["matrices"]["image_auroc"][-1] = [score + 0.01 * seed + 0.002 * CLASSES.index(name) for name in names]
    return made


def test_the_outcome_says_what_a_row_beats_and_what_it_is_not_shown_to_differ_from():
    grid = [(order, seed) for order in ("published", "reversed") for seed in range(3)]
    made = [run_of("mine", 0.9, *run) for run in grid] + [run_of("replay", 0.9, *run) for run in grid]
    made += [run_of("finetune", 0.5, *run) for run in grid]
    made += [run_of("joint", 0.92, *run, capabilities=("reads_ahead",)) for run in grid]
    keys = {each["key"] for each in made if each["spec"]["method"] == "mine"}
    text = verdicts(sections(made), keys, budget_mb=1.0)
    assert "mine + patchcore, 6 runs in order published, reversed\n  tier 1;" in text
    assert "\n  beats: finetune\n  not shown to differ from: replay" in text
    assert "carried 6.00 MB (OVER the protocol's 1 MB)" in text
    assert "out of the race: joint† 0.935" in text
    below = verdicts(sections(made), {each["key"] for each in made if each["spec"]["method"] == "finetune"})
    assert "tier 2" in below and "is beaten by: mine, replay" in below
    single = verdicts(sections(made[:1]), keys)
    assert "no difference can be shown: that takes two rows with 3 runs and 6 classes" in single


def planned(images, **spec) -> Cell:
    made = cell(**spec)["spec"]
    steps = tuple(map(tuple, made["steps"]))
    return Cell(Record.of(cell(**spec)).spec, (), stream.Stream("toy/1x3", 1, "folder", steps, 64), None,
                Request(("replay",)), images=images)  # fmt: skip


def test_an_estimate_is_what_cells_like_it_cost_on_such_a_machine(tmp_path):
    file = tmp_path / "seed-0.json"
    file.write_bytes(bytes(1000))
    earlier = [(file, Record.of(cell(seed=seed))) for seed in (0, 1)]
    found = estimate(planned(None, seed=2), earlier, "Some CPU")
    assert found.hours == pytest.approx(3 * 2.5 / 3600) and found.basis == "2 cells like it"
    assert found.memory_gb == pytest.approx(0.9)
    assert found.disk_mb == pytest.approx(0.001 + 4.938268 + 3), "the file, the detector's weights, what is carried"
    assert estimate(planned(None, seed=2), earlier, "Another CPU") is None
    assert estimate(planned(None, detector_config={"coreset": 0.2}), earlier, "Some CPU") is None
    gpu = [(file, Record.of(cell(device="Some GPU")))]
    assert estimate(planned(None), gpu, "Some GPU").memory_gb == pytest.approx(0.002)


def test_an_estimate_from_another_stream_is_scaled_by_images(tmp_path):
    file = tmp_path / "seed-0.json"
    file.write_bytes(b"")
    there = stream.load_stream("synthetic/1x6")
    assert counts(there)["gear"] == (48, 48)
    spec = {"classes": list(there.classes), "steps": [list(step) for step in there.steps]}
    old = Record.of(cell(scenario="synthetic/1x6", **spec))
    old.cost["eval_images"][:] = [48 * (t + 1) for t in range(6)]
    here = planned({name: (96, 96) for name in ("bottle", "cable", "capsule")})
    found = estimate(here, [(file, old)], "Some CPU")
    train, test = 3 * 96 / (6 * 48), 96 * (1 + 2 + 3) / (48 * 21)
    assert found.hours == pytest.approx((train * 6 * 2.0 + test * 6 * 0.5) / 3600)
    assert found.basis == "1 cell of synthetic/1x6, by images"
    assert estimate(planned(None), [(file, old)], "Some CPU") is None, "nobody knows how many images it has"


def test_counts_are_known_of_official_data_recipes_and_rendered_streams():
    assert counts(stream.load_stream("mvtec/1x15"))["bottle"] == (209, 83)
    assert sum(train for train, _ in counts(stream.load_stream("open/1x7")).values()) == 1503
    assert counts(stream.load_stream("cross/mvtec-visa-27"))["visa:candle"] == (900, 200)
    assert counts(stream.load_stream("factory7/1x7")) is None


def test_rows_of_the_same_settings_are_one_command():
    weights = {"kind": "path", "source": "w.safetensors", "sha256": "ab" * 32}
    common = {
        "detector_config": {"blocks": [5, 8], "head": "max"}, "detector": "token_bank", "weights": weights,
        "scenario": "open/1x7", "order": "reversed", "backbone": "vit", "backbone_arguments": {"mean": 0.5},
        "image_size": 224,
    }  # fmt: skip
    tail = "token_bank.blocks=[5,8],token_bank.head=max,image_size=224,eval=final,backbone=vit,weights=w"
    made = [
        cell(0.9, method_config={"per_class": 6}, variant=f"replay.per_class=6,{tail}", **common),
        cell(0.8, method="finetune", method_config={}, variant=tail, **common),
    ]
    for each in made:
        each["spec"]["eval_every"] = 0
    assert commands([row for section in sections(made) for row in section.rows]) == [
        "python -m bench run --methods replay,finetune --set replay.per_class=6 --detectors token_bank "
        "--scenario open/1x7 --data DIR --order reversed --set 'token_bank.blocks=[5,8]' --set token_bank.head=max "
        "--image-size 224 --eval-final --backbone vit:mean=0.5 --weights WEIGHTS --seeds 0"
    ]


def test_the_page_lists_every_paper_and_what_differs():
    page = (Path(__file__).parents[1] / "docs" / "reproduce.md").read_text()
    for found in protocols.shipped_protocols():
        if found.paper:
            told = set(re.split(r"<br>| \|\s", page))
            assert f"bench reproduce {found.name} " in page and set(found.differs) <= told, found.name
