"""From a folder of own images to a recommendation: what it takes, what it refuses, and what its paragraph says."""

import math

import pytest
from cells import cell
from trees import picture, tree

from bench import advise, cli, session
from bench.analysis.groups import sections
from bench.data import check
from bench.errors import BadInput
from bench.render.advice import write_advice

BAD = {"a": 20, "b": 10, "c": 0}
TABLE = [{"class": name, "train": 40, "test good": 20, "test anomalous": bad} for name, bad in BAD.items()]


def rows(*cells):
    return sorted((row for section in sections(cells) for row in section.rows), key=advise._merit)


def measured(method, final, false_alarm=0.1, recall=0.8, unknown=(2,)):
    """A cell of three classes, of which the `unknown` ones have no defective image."""
    made = cell(final, 0.95, method=method, classes=["a", "b", "c"], steps=[["a"], ["b"], ["c"]], holdout=0.2)
    for row in made["matrices"]["image_auroc"]:
        for column in unknown:
            row[column] = math.nan
    made["matrices"]["class_false_alarm"] = [[false_alarm] * 3] * 3
    made["threshold"] |= {"false_alarm": [false_alarm] * 3, "recall": [recall] * 3}
    return made


def test_the_paragraph_says_what_is_missed_what_it_costs_and_how_sure_that_is(tmp_path):
    ranked = rows(measured("replay", 0.7), measured("cl_patchcore", 0.9), measured("finetune", 0.5))
    text, _ = write_advice(ranked, TABLE, ["scale on inpaint"], "tiny", tmp_path)
    assert text.startswith("Take cl_patchcore on patchcore, the best of 3 systems tried: when all 3 classes")
    assert "in 90% of cases (image AUROC; a coin has 50%), over the 2 classes that have defective images" in text
    assert (
        "rejects 10% (5% to 20%) of the good test images, and lets 20% (10% to 37%) of the defective ones pass" in text
    )
    assert "keeps 3.00 MB" in text and "8.00 ms an image" in text and "cost the earlier ones 0.05 of their" in text
    assert "Next comes replay on patchcore, whose image AUROC is 0.20 lower" in text
    assert "Not tried, for lack of time: scale on inpaint;" in text
    page = (tmp_path / "advice.md").read_text()
    assert page.count("\n| ") == 4 and text in page and "finetune on patchcore" in (tmp_path / "advice.svg").read_text()


def test_without_a_defect_the_best_is_who_keeps_to_the_false_alarms_asked_for(tmp_path):
    alone = {"unknown": (0, 1, 2), "recall": math.nan}
    ranked = rows(measured("replay", 0.9, 0.3, **alone), measured("cl_patchcore", 0.2, 0.06, **alone))
    table = [row | {"test anomalous": 0} for row in TABLE]
    text, _ = write_advice(ranked, table, [], "paper", tmp_path)
    assert text.startswith("Take cl_patchcore on patchcore: of 2 systems tried, it rejects nearest to the 5% of good")
    assert "there is no defective image" in text and "pass" not in text
    assert "nan" not in text and "small networks" not in text


def test_too_few_images_are_told_with_how_many_more_are_needed(tmp_path):
    tree(tmp_path / "line", ("bolt", "nut"), train=7)
    with pytest.raises(BadInput, match=r"bolt needs 3 more, nut needs 3 more \(10 of each class at least\)"):
        advise.advise(tmp_path / "line", tmp_path / "out", 1)


def test_a_folder_with_problems_is_refused_with_the_first_of_them(tmp_path, capsys):
    tree(tmp_path / "line", ("bolt",), train=12)
    (tmp_path / "line" / "bolt" / "train" / "good" / "000.png").write_bytes(b"no picture")
    assert cli.main(["advise", "--data", str(tmp_path / "line"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "is not ready: " in said and "000.png" in said and "`bench data check" in said
    assert ".." not in said.replace("\n", " ") and "all 1" not in said


def test_a_flat_folder_is_one_class_some_of_whose_pictures_are_tested_on(tmp_path):
    for index in range(12):
        picture(tmp_path / "caps" / f"{index:02}.png", index)
    with pytest.raises(BadInput, match="caps needs 1 more"):
        advise.advise(tmp_path / "caps", tmp_path / "out", 1)


def test_of_a_class_without_test_images_some_are_tested_on(tmp_path):
    for index in range(12):
        picture(tmp_path / "line/caps/train/good" / f"{index:02}.png", index)
    data = tmp_path / "line"
    ready = advise._with_tests(data, tmp_path / "out" / "data", check.check_data(data))
    table = check.check_data(ready).table
    assert [(row["class"], row["train"], row["test good"]) for row in table] == [("caps", 9, 3)]
    assert advise._with_tests(data, tmp_path / "out" / "data", check.check_data(data)) == ready, "again, as it was"


def test_a_system_that_would_end_too_late_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(advise.time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(advise, "expected_seconds", lambda specs, root: [10.0] * (len(specs) - 1) + [100.0])
    done = rows(measured("finetune", 0.5))  # took 7.5 s of 10 s expected
    assert not advise._too_long("scale", "inpaint", done, 80.0)
    assert advise._too_long("scale", "inpaint", done, 70.0)


@pytest.mark.slow
def test_the_sample_of_the_docs_is_advised_on(bench, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.data.factory.CLASSES", {"gear": (12, 4, 4, True), "capsule": (12, 4, 0, False)})
    monkeypatch.setattr("bench.data.factory.SIDE", 32)
    monkeypatch.setattr(advise, "SYSTEMS", (("finetune", "padim"), ("joint", "padim")))
    monkeypatch.setattr(advise, "PIXELS", {"tiny": 64})
    assert bench("data", "sample", "--to", "line")[0] == 0
    code, out = bench("advise", "--data", "line", "--minutes", "1")
    assert code == 0 and "over the 1 class that has defective images" in out.replace("\n", " "), out
    assert (tmp_path / "out" / "advice" / "advice.md").is_file()
    calls = []
    monkeypatch.setattr(session, "_run", lambda *_: calls.append(_[1].todo) or [])
    bench("advise", "--data", "line", "--minutes", "1")
    assert calls == [[], []], "what is finished is not run again"
