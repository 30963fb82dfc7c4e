"""The rules of measuring, each broken on purpose by a plugin, and caught by name."""

import os
import shutil

import numpy as np
import pytest
import torch
from command import MINI, ROOT
from mini import cell, read

from bench import audit
from bench.backends import pool
from bench.runner import run, sentry
from bench.training.experiences import LeakError

HEAD = '''"""A cheat, written to be caught."""
import torch
from bench.api import Plugin, Setup, Strategy
from methods.finetune import Config

def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Cheat()])

class Cheat(Plugin):
    last = 0.0
'''

CHEATS = {
    "reads a test image while training": (
        """
    def before_eval_exp(self, strategy, **_):
        self.kept = strategy.experience.dataset
    def after_train_dataset_adaptation(self, strategy, **_):
        if getattr(self, "kept", None) is not None:
            strategy.rehearse(self.kept)
""",
        "LeakError: a test image was read",
    ),
    "reads a later step": (
        """
    def after_train_dataset_adaptation(self, strategy, **_):
        strategy.adapted_dataset = strategy.experience.origin_stream[-1].dataset
""",
        "LeakError: the stream of an experience was looked into",
    ),
    "reads an earlier step again instead of carrying it": (
        """
    def after_train_dataset_adaptation(self, strategy, **_):
        strategy.rehearse(strategy.experience.origin_stream[0].dataset)
""",
        "LeakError: the stream of an experience was looked into",
    ),
    "keeps the data set of a step for later": (
        """
    def after_train_dataset_adaptation(self, strategy, **_):
        if getattr(self, "kept", None) is not None:
            strategy.rehearse(self.kept)
        self.kept = strategy.experience.dataset
""",
        "LeakError: training images of step 0 were read",
    ),
    "uses the statistics of the test batch": (
        """
    def before_eval_forward(self, strategy, **_):
        strategy.model.train()
    def after_eval_forward(self, strategy, **_):
        strategy.model.eval()
""",
        "CanaryError",
    ),
    "scores by what it saw before": (
        """
    def after_eval_forward(self, strategy, **_):
        score, map, route = strategy.mb_output
        self.last = 0.5 * self.last + float(score.mean())
        strategy.mb_output = strategy.mb_output._replace(score=score + 10 * self.last * torch.rand(len(score)))
""",
        "CanaryError",
    ),
    "uses the class given by the order of the test stream": (
        """
    def after_eval_forward(self, strategy, **_):
        column = strategy.experience.current_experience
        strategy.mb_output = strategy.mb_output._replace(score=strategy.mb_output.score + column)
""",
        "LeakError: the class of the test images was asked for",
    ),
    "scales the maps of a batch by their common maximum": (
        """
    def before_eval_forward(self, strategy, **_):
        if not hasattr(self, "honest"):
            self.honest = strategy.model.predict
            strategy.model.predict = self.predict
    def predict(self, image):
        said = self.honest(image)
        return said._replace(map=said.map / said.map.max())
""",
        "CanaryError: maps moved",
    ),
    "counts the steps to come": (
        """
    def before_training_exp(self, strategy, **_):
        self.share = 1 / len(strategy.experience.origin_stream)
""",
        "LeakError: the stream of an experience was looked into",
    ),
    "counts the classes to come by way of the benchmark": (
        """
    def before_training_exp(self, strategy, **_):
        self.share = 1 / len(strategy.experience.origin_stream.benchmark.test_stream)
""",
        "LeakError: the stream of an experience was looked into",
    ),
    "counts the classes at test": (
        """
    def before_eval(self, strategy, **_):
        self.share = 1 / len(next(iter(strategy.current_eval_stream)).origin_stream)
""",
        "LeakError: the stream of an experience was looked into",
    ),
    "stops early on the test images": (
        """
    def before_eval_exp(self, strategy, **_):
        self.test = strategy.experience
    def after_training_epoch(self, strategy, **_):
        if hasattr(self, "test"):
            strategy.eval([self.test])
            strategy.stop_training()
""",
        "LeakError: a test image was read",
    ),
    "reads the names of files": (
        """
    def before_training_exp(self, strategy, **_):
        import os
        self.names = os.listdir("CACHE")
""",
        "LeakError: os.listdir of",
    ),
    "reads the decoded masks past the gate": (
        """
    def before_eval(self, strategy, **_):
        import numpy
        self.masks = numpy.load("CACHE/masks.npy", mmap_mode="r")
""",
        "LeakError: open of",
    ),
    "writes into the file of another cell": (
        """
    def after_training_exp(self, strategy, **_):
        open("RESULTS/seed-0.json", "w").write("{}")
""",
        "LeakError: open of",
    ),
    "moves a file over that of another cell": (
        """
    def after_eval(self, strategy, **_):
        import os
        os.replace(__file__, "RESULTS/seed-0.json")
""",
        "LeakError: os.rename of",
    ),
    "removes the file of another cell while it is built": (
        """
    def __init__(self):
        super().__init__()
        import os
        os.remove("RESULTS/seed-0.json")
""",
        "LeakError: os.remove of",
    ),
}


def cheating(code: str, stream, cache, tmp_path):
    """A cell of the cheat, and the file of another cell that it may be after."""
    rival = tmp_path / "results" / "other" / "seed-0.json"
    rival.parent.mkdir(parents=True)
    rival.write_text("honest")
    decoded = next(cache.glob("*/masks.npy")).parent
    code = code.replace("CACHE", str(decoded)).replace("RESULTS", str(rival.parent))
    (tmp_path / "cheat.py").write_text(HEAD + code)
    plugins = (tmp_path / "cheat.py",)
    made = cell(stream, cache, "cheat", "autoencoder", overrides={"autoencoder": {"epochs": 1}}, plugins=plugins)
    return made, rival


@pytest.mark.parametrize("name", CHEATS, ids=str)
def test_a_cheat_is_a_failed_row_with_the_rule_it_broke(name, stream, cache, arrays, tmp_path):
    code, caught = CHEATS[name]
    one, rival = cheating(code, stream, cache, tmp_path)
    run(one, tmp_path / "results")
    record = read(tmp_path / "results", one)
    assert record["status"] == "failed"
    assert caught in record["reason"], record["reason"]
    assert rival.read_text() == "honest"


WALK = """
    found = ()
    def look(self, strategy, **_):
        seen, todo, found = set(), [strategy], []
        while todo:
            thing = todo.pop()
            if id(thing) in seen or callable(thing) and not hasattr(thing, "plugins"):
                continue
            seen.add(id(thing))
            name = type(thing).__name__
            if name in ("Truth", "Arrays", "Rows", "Evaluation", "Gate", "Stream", "memmap") or name.endswith("Path"):
                found.append(name)
            if isinstance(thing, str) and any(word in thing for word in ("gear", "wood", "board", "good", "scratch")):
                found.append(thing)
            if isinstance(thing, dict):
                todo += [*thing, *thing.values()]
            elif isinstance(thing, (list, tuple, set)):
                todo += thing
            else:
                todo += getattr(thing, "__dict__", {}).values()
        self.found += tuple(found)
        if self.found:
            raise RuntimeError(f"found {self.found} among {len(seen)} things")
    before_training_exp = after_training_exp = before_eval_exp = after_eval_iteration = after_eval = look
"""


def test_neither_truth_nor_names_nor_results_are_within_a_methods_reach(stream, cache, arrays, tmp_path):
    """A cheat that follows every attribute of all that it is given finds none of them."""
    one, _ = cheating(WALK, stream, cache, tmp_path)
    run(one, tmp_path / "results")
    record = read(tmp_path / "results", one)
    assert record["status"] == "ok", record["reason"]


def test_the_cheat_that_looks_for_the_truth_would_find_it(stream, arrays):
    from types import SimpleNamespace

    from bench.evaluation import Evaluation

    scope: dict = {}
    exec(compile("class Cheat:\n" + WALK, "cheat", "exec"), scope)
    with pytest.raises(RuntimeError, match="Truth"):
        scope["Cheat"]().look(SimpleNamespace(plugins=[], evaluation=Evaluation(stream, arrays)))


def test_no_result_of_a_test_comes_back_to_a_method(stream, cache, arrays, tmp_path):
    """Early stopping on earlier results finds none, so it cannot stop."""
    code = """
    def after_training_epoch(self, strategy, **_):
        found = strategy.evaluator.get_last_metrics() | strategy.evaluator.get_all_metrics()
        if found:
            raise RuntimeError(f"found {found}")
"""
    one, _ = cheating(code, stream, cache, tmp_path)
    run(one, tmp_path / "results")
    assert read(tmp_path / "results", one)["status"] == "ok"


SECRETS = {
    "an attribute that is not in its state": ("", "self.hidden", "    hidden = None\n"),
    "a global of its module": ("HIDDEN = {}\n", 'HIDDEN["it"]', ""),
}


@pytest.mark.parametrize("name", SECRETS, ids=str)
def test_state_that_is_not_declared_is_found_by_the_audit(name, stream, cache, arrays, tmp_path):
    """Images kept on the side are worth nothing to a cell that is resumed at every step, and so the scores differ."""
    setup, place, attribute = SECRETS[name]
    keep = f"""
    def after_train_dataset_adaptation(self, strategy, **_):
        try:
            kept = {place}
        except KeyError:
            kept = None
        if kept is not None:
            strategy.rehearse(normal_images(kept))
    def after_training_exp(self, strategy, **_):
        {place} = torch.stack([image for image, *_ in strategy.experience.dataset])
"""
    one, _ = cheating(attribute + keep, stream, cache, tmp_path)
    file = tmp_path / "cheat.py"
    text = file.read_text().replace("import Plugin", "import normal_images, Plugin")
    file.write_text(text.replace("class Cheat", setup + "class Cheat"))
    root = tmp_path / "results"
    run(one, root)
    assert read(root, one)["status"] == "ok", "a single process does not notice"
    assert not audit.audit(pool.server(), one, root, 1)
    record = read(root, one)
    assert record["status"] == "failed"
    assert record["reason"].startswith("AuditError: after step 1 the scores of gear differ")


def test_an_honest_method_passes_the_audit(stream, cache, arrays, tmp_path):
    one = cell(stream, cache, "replay", "autoencoder", overrides={"autoencoder": {"epochs": 2}})
    run(one, tmp_path)
    assert audit.audit(pool.server(), one, tmp_path, 1)
    assert read(tmp_path, one)["audited"] and read(tmp_path, one)["status"] == "ok"
    assert not list(tmp_path.glob(".audit-*"))


def test_the_command_audits_finished_cells_once(bench, tmp_path):
    assert "finetune+autoencoder seed 0: audit passed" in bench(*MINI, "--audit")[1]
    assert ": audit" not in bench(*MINI, "--audit")[1], "it has passed already"
    assert "audited: the same scores" in bench("show", "custom/mini/finetune+autoencoder,epochs=1/seed-0")[1]


def test_a_method_that_imports_the_inside_of_the_bench_is_refused(bench, tmp_path):
    for line in ("from bench.evaluation import Truth", "import bench.data as data", "from bench import data"):
        (tmp_path / "sly.py").write_text(HEAD.replace("import torch", f"import torch\ndef peek():\n    {line}\n"))
        code, out = bench("run", "--methods", "sly", "--plugin", "sly.py", "--detectors", "autoencoder")
        assert code == 2 and "a method may import only bench.api" in out


def test_closed_folders_are_closed_whatever_the_way(tmp_path):
    inside, outside = tmp_path / "in" / "deep", tmp_path / "out"
    inside.mkdir(parents=True)
    outside.mkdir()
    (inside / "a").write_text("a")
    (outside / "b").write_text("b")
    (outside / "way").symlink_to(inside)
    ways = [
        lambda: (inside / "a").read_text(),
        lambda: (outside / "way" / "a").read_text(),
        lambda: (tmp_path / "out" / ".." / "in" / "deep" / "a").read_bytes(),
        lambda: (inside / "c").write_text("c"),
        lambda: list(inside.iterdir()),
        lambda: list(os.scandir(inside)),
        lambda: os.remove(inside / "a"),
        lambda: os.replace(outside / "b", inside / "a"),
        lambda: os.link(inside / "a", outside / "d"),
        lambda: shutil.rmtree(inside),
        lambda: np.load(inside / "a"),
        lambda: torch.load(inside / "a"),
    ]
    with sentry.closed(tmp_path / "in"):
        for way in ways:
            with pytest.raises(LeakError, match="closed to a method"):
                way()
        assert (outside / "b").read_text() == "b"
    assert (inside / "a").read_text() == "a"
    with sentry.closed(ROOT):  # the bench lies there: its modules must stay within reach
        assert (ROOT / "README.md").read_text()


def test_test_images_come_without_their_truth(stream, arrays):
    from bench.training.experiences import benchmark

    bench, gate = benchmark(stream, arrays)
    gate.testing = True
    for experience in bench.test_stream:
        image, mask, label, category = experience.dataset[len(experience.dataset) - 1]
        assert image.shape == (3, 64, 64)
        assert (mask.any().item(), label, category) == (False, -1, -1)


def test_class_labels_reach_training_only_if_declared(stream, arrays):
    from bench.training.experiences import benchmark

    for labels, wanted in ((False, -1), (True, 1)):
        bench, gate = benchmark(stream, arrays, labels=labels)
        gate.open_steps = range(3)
        assert bench.train_stream[1].dataset[0][3] == wanted
        assert torch.is_tensor(bench.train_stream[1].dataset[0][0])
