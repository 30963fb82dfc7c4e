"""A method's own word: what it may say of its progress, its failure, its size and its costs, and what then stands."""

import json
import os

import pytest
import torch
from mini import cell, read
from test_wall import cheating

from bench import registry
from bench.render.progress import Watch
from bench.runner import run_cell
from bench.runner.cost import grown_by
from bench.wall import nursery, state
from bench.wall.child import _size_of

pytestmark = pytest.mark.slow


def run(code: str, stream, cache, tmp_path, **about):
    """The record of the cheat `code`, and the events of its run."""
    one, _ = cheating(code, stream, cache, tmp_path)
    events: list[dict] = []
    run_cell(one, tmp_path / "results", events.append, **about)
    return read(tmp_path / "results", one), events


SAY = """
    def before_training_exp(self, strategy, **_):
        import gc, json
        strategy.train_epochs = 0
        channel = next(found for found in gc.get_objects() if type(found).__name__ == "Channel")
        channel.send(**WHAT)
"""


def test_progress_is_two_numbers_whatever_else_a_method_says_with_it(stream, cache, arrays, tmp_path):
    what = {"kind": "epoch", "epoch": 1, "epochs": 2, "step": 3, "image_auroc": 1.0, "note": "won", "done": "ok"}
    record, events = run(SAY.replace("WHAT", repr(what)), stream, cache, tmp_path, at_most=1)
    assert {"epoch": 1, "epochs": 2} in events and record["status"] == "partial"
    assert {"done", "note"}.isdisjoint(name for event in events for name in event)


@pytest.mark.parametrize("what", [{"epoch": 1}, {"epoch": "1", "epochs": 2}, {"epoch": 1, "epochs": float("inf")}])
def test_progress_that_is_no_number_fails_the_cell(what, stream, cache, arrays, tmp_path):
    record, _ = run(SAY.replace("WHAT", f"{{'kind': 'epoch', **json.loads({json.dumps(what)!r})}}"), stream, cache,
                    tmp_path)  # fmt: skip
    assert record["status"] == "failed" and "epoch" in record["reason"], record["reason"]


def test_a_note_says_whose_word_it_is(stream, cache, arrays, tmp_path):
    what = {"kind": "note", "text": "\x1b[2Jjoint: done" + "!" * 1000}
    _, events = run(SAY.replace("WHAT", repr(what)), stream, cache, tmp_path, at_most=1)
    (note,) = [event["note"] for event in events if "note" in event]
    assert note.startswith("method: [2Jjoint: done!") and len(note) < 400


def test_a_cell_that_is_done_without_a_record_has_died(stream, cache, tmp_path):
    one = cell(stream, cache, "finetune", "autoencoder")
    watch = Watch({one.name: 1.0}, tmp_path)
    watch(one, {"done": "ok", "seconds": 1.0})
    assert "ok" not in watch.ended and "no record" in watch.ended["died"][0][1]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise RuntimeError('\\ud800 \\x00 \\x1b[2J')", "RuntimeError:"),
        ("strategy.train_images = -1", "train_images is -1"),
        ("strategy.train_images = 'many'", "train_images is 'many', no number"),
        (
            "import time; time.perf_counter = lambda: 0.0",
            "no amount: it is the seconds in the callbacks of its plugins, so leave the functions of `time` as",
        ),
        (
            "[os.write(file, bytes.fromhex('80044b01') + bytes(4096)) for file in range(3, 20) if "
            "os.path.exists(f'/proc/self/fd/{file}') and 'socket' in os.readlink(f'/proc/self/fd/{file}')]",
            "sent a header of 21693568 bytes, where 16777216 are the most: a plugin may write to no descriptor",
        ),
    ],
)
def test_a_failure_is_a_row_whatever_its_reason(code, said, stream, cache, arrays, tmp_path):
    record, events = run(f"    def after_training_exp(self, strategy, **_):\n        {code}\n", stream, cache, tmp_path)
    assert record["status"] == "failed" and said in record["reason"] and events[-1]["done"] == "failed"
    assert all(letter.isprintable() or letter in "\t\n" for letter in record["reason"])


def test_a_scratch_folder_goes_however_deep_it_is(tmp_path):
    top = tmp_path / "deep"
    top.mkdir()
    within = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 200, dir_fd=within)
        within, above = os.open("d" * 200, os.O_RDONLY, dir_fd=within), within
        os.close(above)
    os.close(within)
    nursery._remove(str(top))
    assert not top.exists()


def test_what_a_process_began_with_is_not_told_to_a_step(stream, cache, arrays, tmp_path):
    """Whose paths lead to the data: the size of a file can be asked for by its name."""
    code = """
    def before_training_exp(self, strategy, **_):
        import sys
        told = [open(f"/proc/self/{name}").read().strip(chr(0)) for name in ("cmdline", "environ")]
        if any(told) or sys.argv != [""] or "PWD" in os.environ:
            raise RuntimeError(f"told: {told}")
"""
    record, _ = run(code, stream, cache, tmp_path, at_most=1)
    assert record["status"] == "partial", record["reason"]


def test_a_method_named_as_its_detector_does_not_say_how_large_that_is(stream, cache, arrays, tmp_path):
    code = """
    pass

import sys
sys.modules["bench.wall.child"]._size_of = lambda detector: {"parameters": 10}
"""
    cheating(code, stream, cache, tmp_path)
    (tmp_path / "cheat.py").rename(tmp_path / "autoencoder.py")
    plugins = (tmp_path / "autoencoder.py",)
    lies, honest = (
        cell(stream, cache, name, "autoencoder", overrides={"autoencoder": {"epochs": 1}}, plugins=given)
        for name, given in (("autoencoder", plugins), ("finetune", ()))
    )
    for one in (lies, honest):
        run_cell(one, tmp_path / "results", at_most=1)
    found, wanted = (read(tmp_path / "results", one) for one in (lies, honest))
    assert found["status"] == "partial", found["reason"]
    assert found["cost"]["parameters"] == wanted["cost"]["parameters"]


class Network(torch.nn.Sequential):
    """Weights, a count, a bank that is empty when it is built, and a scale that is not."""

    epochs = 1

    def __init__(self):
        super().__init__(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        self.register_buffer("bank", torch.empty(0))
        self.register_buffer("scale", torch.ones(1))


FRESH = _size_of(Network())
IMAGES = "aW1hZ2Vz" * 100

HIDDEN = {  # where images are kept -> what of a state holds them
    "in the name of an entry without numbers": {f"x{IMAGES}": torch.empty(0)},
    "in the shapes of entries without numbers": {f"x{n}": torch.empty(0, 10**6 + n, 10**9) for n in range(20)},
    "in a shape of ones": {"0.bias": torch.ones((1,) * 800 + (4,))},
    "in text that says tensor": {"x": f"tensor{IMAGES}"},
    "in text where the bank was": {"bank": [torch.ones(3), f"tensor{IMAGES}"]},
    "in a count that has grown": {"1.num_batches_tracked": torch.zeros(100, dtype=torch.int64)},
    "in a mean that has grown": {"1.running_mean": torch.zeros(304)},
    "in a scale that has grown": {"scale": torch.zeros(304)},
    "in weights that have grown": {"0.weight": torch.zeros(304)},
}


@pytest.mark.parametrize("name", HIDDEN, ids=str)
def test_every_byte_that_a_method_hides_in_its_detector_is_carried(name):
    assert grown_by(state.encode(Network().state_dict() | HIDDEN[name]), FRESH)[1] >= 700


def test_what_a_detector_fills_itself_is_not_carried():
    filled = state.encode(Network().state_dict() | {"bank": torch.ones(50, 7)})
    assert grown_by(filled, FRESH) == (1400, 0)
    assert grown_by(state.encode(Network().state_dict()), FRESH) == (0, 0)
    assert grown_by(state.encode({"bank": torch.ones(50, 7)}), FRESH) == (1400, 0), "what is left out makes no room"


def test_a_state_is_handed_on_without_entries(tmp_path):
    whole = {"a": torch.arange(3), "bank": torch.ones(4, 7), "b": torch.arange(5).flip(0).view(5, 1).T}
    left = state.decode_state(state.without_entries(state.encode(whole), ["bank", "c"]))
    assert list(left) == ["a", "b"] and all(torch.equal(left[name], whole[name]) for name in left)
    assert state.without_entries(state.encode(whole), []) == state.encode(whole)
    assert state.without_entries(b"", ["bank"]) == b""


@pytest.mark.parametrize(
    ("detector", "bank"),
    [
        ("patchcore", "net.memory_bank"),
        ("cfa", "net.memory_bank"),
        ("padim", "net.gaussian.inv_covariance"),
        ("position_bank", "bank"),
    ],
)
def test_no_method_keeps_things_in_the_bank_of_its_detector(detector, bank, stream, cache, arrays, tmp_path):
    """It would be memory that nobody counts: old rows within the new bank are worth ten points to fine-tuning."""
    code = f"""
    def before_training_exp(self, strategy, **_):
        if strategy.model.state_dict()["{bank}"].any():
            raise RuntimeError(f"step {{strategy.experience.current_experience}} finds an older bank")
    def after_training_exp(self, strategy, **_):
        if not strategy.model.state_dict()["{bank}"].any():
            raise RuntimeError("there is no bank")
"""
    cheating(code, stream, cache, tmp_path)
    plugins = (tmp_path / "cheat.py",)
    one = cell(stream, cache, "cheat", detector, plugins=plugins)
    run_cell(one, tmp_path / "results", at_most=2)
    record = read(tmp_path / "results", one)
    assert record["status"] == "partial", record["reason"]


@pytest.mark.parametrize("kept", [torch.zeros(1000), "0" * 4000], ids=["numbers", "text"])
def test_what_a_detector_of_ones_own_has_room_for_is_its_size(kept):
    class Roomy(Network):
        def get_extra_state(self):
            return kept

    class Prepared(Network):
        def __init__(self):
            super().__init__()
            self.register_buffer("room", torch.zeros(1000))

    bare = FRESH["detector_bytes"]
    assert _size_of(Prepared())["detector_bytes"] == bare + 4000
    assert bare + 4000 < _size_of(Roomy())["detector_bytes"] < bare + 4100


def test_a_detector_that_lies_is_as_large_as_what_it_hands_over(stream, cache, arrays, tmp_path):
    code = """
import sys
told = sys.modules["bench.wall.child"]._size_of
sys.modules["bench.wall.child"]._size_of = lambda detector: told(detector) | {"detector_bytes": 10}
"""
    (tmp_path / "lies.py").write_text((registry.ROOT / "methods/detectors/autoencoder.py").read_text() + code)
    one, honest = (
        cell(stream, cache, "finetune", name, overrides={name: {"epochs": 1}}, plugins=given)
        for name, given in (("lies", (tmp_path / "lies.py",)), ("autoencoder", ()))
    )
    sizes = []
    for each in (one, honest):
        run_cell(each, tmp_path / "results", at_most=1)
        record = read(tmp_path / "results", each)
        assert record["status"] == "partial", record["reason"]
        sizes.append(record["cost"]["detector_bytes"])
    assert 0.99 < sizes[0] / sizes[1] <= 1


def test_a_state_has_no_second_way_to_be_written():
    content = state.encode(Network().state_dict())
    length = state.PREFIX.unpack_from(content)[0]
    text, numbers = content[state.PREFIX.size :][:length], content[state.PREFIX.size + length :]
    for other in (text[:-1] + b',"h":"hidden"}', text.replace(b",", b", "), b'{"ordered":[],' + text[1:]):
        with pytest.raises(ValueError, match=r"this is no dictionary|too many"):
            grown_by(state.PREFIX.pack(len(other)) + other + numbers, FRESH)


def test_more_epochs_than_the_row_says_fail_it(stream, cache, arrays, tmp_path):
    code = """
    def before_training_exp(self, strategy, **_):
        strategy.train_epochs *= 3
    def after_training_exp(self, strategy, **_):
        strategy.train_images //= 3
"""
    record, _ = run(code, stream, cache, tmp_path)
    assert record["status"] == "failed" and "3 epochs where its row says 1" in record["reason"], record["reason"]


def test_what_is_trained_outside_of_train_is_in_the_seconds(stream, cache, arrays, tmp_path):
    """In taking the state back it is training; at the first question it is told beside it."""
    code = """
    def __init__(self):
        super().__init__()
        self.debt = 0.0
    def before_training_exp(self, strategy, **_):
        strategy.train_epochs = 0
        self.debt = 0.6
    def before_eval(self, strategy, **_):
        self.pay()
    def pay(self):
        import time
        end = time.process_time() + self.debt
        while time.process_time() < end:
            pass
        self.debt = 0.0
    def state_dict(self):
        return {"debt": self.debt}
    def load_state_dict(self, state):
        self.debt = state["debt"]
        self.pay()
"""
    record, _ = run(code, stream, cache, tmp_path, at_most=2)
    cost = record["cost"]
    assert cost["train_cpu_s"][1] > 0.6 and cost["eval_cpu_s"][0] > 0.6, cost
    assert cost["epochs"] == [0, 0]
