"""A method behind the wall: what it is given, what it cannot reach, what it can carry, and who is told."""

import dataclasses
import os
import re
from collections import OrderedDict, deque
from pathlib import Path

import heavy
import numpy as np
import psutil
import pytest
import torch
from mini import cell, read

from bench.render import leaderboard, show
from bench.runner import run_cell
from bench.schema.stream import Stream
from bench.wall import nursery, state
from bench.wall.confinement import OFF

pytestmark = pytest.mark.slow

HEAD = '''"""A cheat, written to be caught."""
import fcntl
import os
import torch
from bench.api import Plugin, Setup, Strategy, normal_images
from methods.finetune import Config

def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Cheat()])

class Cheat(Plugin):
    last = 0.0
'''

REFUSED = {
    "reads a later step": (
        """
    def after_train_dataset_adaptation(self, strategy, **_):
        strategy.adapted_dataset = strategy.experience.origin_stream[-1].dataset
""",
        "NotGivenError: the stream of an experience was looked into",
    ),
    "reads an earlier step again instead of carrying it": (
        """
    def after_train_dataset_adaptation(self, strategy, **_):
        strategy.rehearse(strategy.experience.origin_stream[0].dataset)
""",
        "NotGivenError: the stream of an experience was looked into",
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
        "NotGivenError: the class of the test images was asked for",
    ),
    "scales the maps of a batch by their common maximum": (
        """
    def after_eval_forward(self, strategy, **_):
        said = strategy.mb_output
        strategy.mb_output = said._replace(map=said.map / said.map.max())
""",
        "CanaryError: maps moved",
    ),
    "counts the steps to come": (
        """
    def before_training_exp(self, strategy, **_):
        self.share = 1 / len(strategy.experience.origin_stream)
""",
        "NotGivenError: the stream of an experience was looked into",
    ),
    "goes on learning when its state is handed over": (
        """
    def before_eval(self, strategy, **_):
        for weight in strategy.model.parameters():
            weight.data += torch.randn_like(weight)
""",
        "CanaryError",
    ),
    "says nothing of a test image": (
        """
    def after_eval_forward(self, strategy, **_):
        said = strategy.mb_output
        said.score[3] = float("nan")
""",
        "AnswerError: the score of",
    ),
    "reads the names of files": (
        """
    def before_training_exp(self, strategy, **_):
        self.names = os.listdir("CACHE")
""",
        "PermissionError",
    ),
    "reads the decoded masks": (
        """
    def before_eval(self, strategy, **_):
        import numpy
        self.masks = numpy.load("CACHE/masks.npy", mmap_mode="r")
""",
        "PermissionError",
    ),
    "writes into the file of another cell": (
        """
    def after_training_exp(self, strategy, **_):
        open("RESULTS/seed-0.json", "w").write("{}")
""",
        "PermissionError",
    ),
    "removes the file of another cell while it is built": (
        """
    def __init__(self):
        super().__init__()
        os.remove("RESULTS/seed-0.json")
""",
        "PermissionError",
    ),
    "kills the process that holds the truth": (
        """
    def before_eval(self, strategy, **_):
        os.kill(PARENT, 9)
""",
        "PermissionError",
    ),
}


def cheating(code: str, stream, cache, tmp_path):
    """A cell of the cheat, and the file of another cell that it may be after."""
    rival = tmp_path / "results" / "other" / "seed-0.json"
    rival.parent.mkdir(parents=True)
    rival.write_text("honest")
    decoded = next(cache.glob("*/masks.npy")).parent
    code = code.replace("CACHE", str(decoded)).replace("RESULTS", str(rival.parent)).replace("PARENT", str(os.getpid()))
    (tmp_path / "cheat.py").write_text(HEAD + code)
    plugins = (tmp_path / "cheat.py",)
    made = cell(stream, cache, "cheat", "autoencoder", overrides={"autoencoder": {"epochs": 1}}, plugins=plugins)
    return made, rival


@pytest.mark.parametrize("name", REFUSED, ids=str)
def test_a_cheat_is_a_failed_row_with_the_rule_it_broke(name, stream, cache, arrays, tmp_path):
    code, caught = REFUSED[name]
    one, rival = cheating(code, stream, cache, tmp_path)
    run_cell(one, tmp_path / "results")
    record = read(tmp_path / "results", one)
    assert record["status"] == "failed"
    assert caught in record["reason"], record["reason"]
    assert rival.read_text() == "honest"


SWALLOWED = {  # what a cheat tries, whatever comes of it -> how it is named
    "open('CACHE/masks.npy')": "read CACHE/masks.npy",
    "os.listdir('RESULTS')": "read RESULTS",
    "ctypes.CDLL(None).open(b'CACHE/.', 0)": "read CACHE",
    "subprocess.run(['cat', 'CACHE/images.npy'], stderr=subprocess.DEVNULL)": "read CACHE/images.npy",
    "in_a_thread(open, '/proc/PARENT/environ')": "read /proc/PARENT/environ",
    "open('/proc/self/../PARENT/maps')": "read /proc/PARENT/maps",
    "os.stat('RESULTS/seed-0.json')": "ask for the size of RESULTS/seed-0.json",
    "subprocess.run(['ls', '-l', 'CACHE/images.npy'], stderr=-3)": "ask for the size of CACHE/images.npy",
    "os.remove('RESULTS/seed-0.json')": "write RESULTS/seed-0.json",
    "os.replace('mine', 'RESULTS/seed-1.json')": "write RESULTS/seed-1.json",
    "(os.symlink('CACHE/complete.json', 'link'), open('link'))": "read CACHE/complete.json",
    "os.chmod('RESULTS/seed-0.json', 0)": "change RESULTS/seed-0.json",
    "os.kill(PARENT, 0)": "send a signal to process PARENT",
    "os.setpriority(os.PRIO_PROCESS, PARENT, 19)": "setpriority (other processes)",
    "socket.socket()": "open a socket (AF_INET)",
    "signal.signal(signal.SIGCHLD, signal.SIG_IGN)": "rt_sigaction (children left uncounted)",
    "open('/dev/shm/bench-cheat', 'w')": "write /dev/shm/bench-cheat",
    "socket.sethostname(socket.gethostname())": "sethostname (the machine)",
    "time.clock_settime(time.CLOCK_REALTIME, time.time())": "clock_settime (the machine)",
    "os.chroot('/')": "chroot (the machine)",
    "os.sched_setaffinity(PARENT, {0})": "sched_setaffinity (limits of other processes)",
    "fcntl.ioctl(open(os.__file__), 0x40087602, bytes(8))": "ioctl (what a file keeps)",  # FS_IOC_SETVERSION
    "fcntl.fcntl(open(os.__file__), 1036, bytes(8))": "fcntl (what a file keeps)",  # F_SET_RW_HINT
    "os.posix_fadvise(open(os.__file__).fileno(), 0, 0, 4)": "fadvise64 (what is dropped from the cache)",
    "ctypes.CDLL(None).creat(ctypes.c_void_p(8), 0)": "write a file whose name it hides",
    "[(os.mkdir('d' * 200), os.chdir('d' * 200)) for _ in range(30)]": "write below a folder too deep for its path",
}


def test_what_a_cheat_tries_in_silence_is_named_and_fails_the_cell(stream, cache, arrays, tmp_path):
    tries = "".join(f"        attempt(lambda: {code})\n" for code in SWALLOWED)
    code = f"""
    def before_training_exp(self, strategy, **_):
        import ctypes, fcntl, os, signal, socket, subprocess, threading, time
        def in_a_thread(*what):
            thread = threading.Thread(target=lambda: attempt(lambda: what[0](*what[1:])))
            thread.start(), thread.join()
        def attempt(what):
            try:
                what()
            except OSError:
                pass
        open("mine", "w").close()
{tries}"""
    one, rival = cheating(code, stream, cache, tmp_path)
    run_cell(one, tmp_path / "results")
    record = read(tmp_path / "results", one)
    places = {
        "CACHE": str(next(cache.glob("*/masks.npy")).parent),
        "RESULTS": str(rival.parent),
        "PARENT": str(os.getpid()),
    }
    wanted = {re.sub("|".join(places), lambda found: places[found[0]], said) for said in SWALLOWED.values()}
    assert set(record["wall"]["refused"]) == wanted
    assert record["status"] == "failed" and not record["cost"]["train_s"]
    assert record["reason"].startswith("the method was refused") and all(said in record["reason"] for said in wanted)
    page = show.cell_text(tmp_path, record)
    assert all(f"refused: {said}" in page for said in wanted)


def test_what_libraries_do_of_their_own_accord_is_no_breach(stream, cache, arrays, tmp_path):
    # What the fork server has looked for stays in its memory: the child then opens what it could not have listed.
    import importlib.metadata

    importlib.metadata.entry_points()
    code = """
    def before_training_exp(self, strategy, **_):
        import getpass, pathlib, socket, subprocess, tempfile
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "file")
            for _ in range(2):
                file.touch()
        pathlib.Path.home().joinpath(".config").mkdir()
        for path in ("/proc/self/stat", "/proc/loadavg", "/sys/kernel/mm/ksm/run", "/no/such/file", os.sep):
            try:
                open(path).read()
            except OSError:
                pass
        getpass.getuser(), os.path.expanduser("~root")
        import importlib.metadata
        importlib.metadata.entry_points()
        with subprocess.Popen(["sleep", "60"]) as other:
            other.kill()
        os.kill(os.getpid(), 0)
"""
    one, _ = cheating(code, stream, cache, tmp_path)
    run_cell(one, tmp_path / "results")
    record = read(tmp_path / "results", one)
    assert record["status"] == "ok" and record["wall"]["refused"] == [], record["reason"]


def test_system_calls_that_the_wall_does_not_know_are_not_there(stream, cache, arrays, tmp_path):
    """As those of the next kernel: file_getattr and file_setattr are of 6.17."""
    code = """
    def before_training_exp(self, strategy, **_):
        import ctypes, errno
        libc = ctypes.CDLL(None, use_errno=True)
        for number in (468, 469, 470, 1000, 1 << 30):
            assert libc.syscall(number, -100, b"/usr", bytes(24), 24, 0) == -1
            assert ctypes.get_errno() == errno.ENOSYS, (number, ctypes.get_errno())
"""
    one, _ = cheating(code, stream, cache, tmp_path)
    run_cell(one, tmp_path / "results", at_most=1)
    record = read(tmp_path / "results", one)
    assert record["status"] == "partial" and record["wall"]["refused"] == [], record["reason"]


def test_the_size_of_a_file_is_told_of_open_ones_only(stream, cache, arrays, tmp_path):
    """By no call, no way round and to no thread that changes the path while it is looked at."""
    code = """
    def before_training_exp(self, strategy, **_):
        import ctypes, threading
        libc, secret = ctypes.CDLL(None), b"CACHE/masks.npy"
        open("mine", "wb").write(bytes(7))
        os.symlink(secret, "link")
        os.mkdir("folder")
        there = os.open("folder", os.O_RDONLY)
        assert os.stat("mine").st_size == os.lstat("mine").st_size == os.stat("../mine", dir_fd=there).st_size == 7
        assert os.stat("mine")[:3] == os.fstat(os.open("mine", os.O_RDONLY))[:3] and not os.stat("/dev/null").st_size
        assert os.lstat("link").st_size == len(secret) and os.path.samefile("folder", there)
        assert os.path.getsize(os.__file__) == len(open(os.__file__, "rb").read())

        def told(way):
            try:
                return way()
            except (FileNotFoundError, PermissionError):
                return "nothing"
        ways = [
            lambda: os.stat(secret), lambda: os.lstat(secret), lambda: os.stat("link"),
            lambda: os.fstat(os.open(secret, os.O_PATH)), lambda: os.stat("/proc/self/root" + secret.decode()),
            lambda: (os.chdir(os.path.dirname(secret)), os.stat("masks.npy")), lambda: os.path.getmtime(secret),
        ]
        here = os.getcwd()
        assert [told(way) for way in ways] == ["nothing"] * len(ways)
        os.chdir(here)
        assert not os.path.exists(secret)
        for number in (428, 437):  # open_tree, openat2
            assert libc.syscall(number, -100, secret, bytes(24) if number == 437 else 0, 24) < 0

        path, done = ctypes.create_string_buffer(len(secret) + 1), []
        def change():
            while not done:
                path.value = b"mine"
                path.value = secret
        thread = threading.Thread(target=change)
        thread.start()
        answer = ctypes.create_string_buffer(144)
        sizes = {int.from_bytes(answer[48:56], "little") for _ in range(500) if not libc.stat(path, answer)}
        done.append(True)
        thread.join()
        assert sizes <= {7}, sizes
"""
    one, _ = cheating(code, stream, cache, tmp_path)
    run_cell(one, tmp_path / "results", at_most=1)
    record = read(tmp_path / "results", one)
    masks = next(cache.glob("*/masks.npy"))
    assert "AssertionError" not in record["reason"] and record["reason"].startswith("the method was refused"), record[
        "reason"
    ]
    assert f"ask for the size of {masks}" in record["wall"]["refused"] and "sizes of files" in record["wall"]["closed"]


HIDING = {
    "an attribute that is not in its state": "self.hidden = images",
    "a global of its module": "globals()['HIDDEN'] = images",
    "a file of its own": "torch.save(images, os.environ['TMPDIR'] + '/hidden.pt')",
    "a flag of an open file": "[fcntl.fcntl(file, 10, 20) for file in range(3)]",  # F_SETSIG; F_GETSIG is 11
}


@pytest.mark.parametrize("name", HIDING, ids=str)
def test_what_is_hidden_from_the_state_is_gone_at_the_next_step(name, stream, cache, arrays, tmp_path):
    code = f"""
    def before_training_exp(self, strategy, **_):
        found = [hasattr(self, "hidden"), "HIDDEN" in globals(), len(os.listdir(os.environ["TMPDIR"])) > 0]
        found += [fcntl.fcntl(file, 11) != 0 for file in range(3)]
        if any(found):
            raise RuntimeError(f"found again: {{found}}")
    def after_training_exp(self, strategy, **_):
        images = torch.stack([image for image, *_ in strategy.experience.dataset])
        {HIDING[name]}
"""
    one, _ = cheating(code, stream, cache, tmp_path)
    run_cell(one, tmp_path / "results")
    record = read(tmp_path / "results", one)
    assert record["status"] == "ok", record["reason"]
    assert record["cost"]["carried_bytes"] == [0, 0, 0]


def test_a_state_that_cannot_be_carried_is_refused_by_name_after_the_first_step(stream, cache, arrays, tmp_path):
    code = """
    def state_dict(self):
        return {"draws": [torch.Generator()]}
    def load_state_dict(self, state):
        pass
"""
    one, _ = cheating(code, stream, cache, tmp_path)
    run_cell(one, tmp_path / "results")
    record = read(tmp_path / "results", one)
    assert record["status"] == "failed" and not record["cost"]["train_s"]
    assert "Cheat.state_dict()['draws'][0] is of type torch._C.Generator" in record["reason"], record["reason"]


@dataclasses.dataclass
class Exemplar:
    """One of the kinds of state below."""

    image: torch.Tensor
    where: tuple
    more: dict = dataclasses.field(default_factory=dict)


KINDS = {
    "tensors": {
        "a": torch.arange(6.0).view(2, 3).T,
        "half": torch.ones(3, dtype=torch.bfloat16),
        "none": torch.empty(0, 4),
    },
    "arrays": [np.arange(4, dtype=">i2"), np.zeros((0, 2)), np.array("text"), np.float32(0.1), np.bool_(True)],
    "numbers": [True, 3, 2**200, -(7**20000), -0.0, float("inf"), 1 + 2j, None, "ü", b"\x00\xff"],
    "containers": [(1, (2,)), {3, 4}, frozenset({5}), deque([6, 7], maxlen=3), OrderedDict(b=1, a=2), [], (), {}],
    "keys": {1: "a", "1": "b", None: "c", (1, 2): "d", 2.5: "e", False: "f", b"x": "g"},
    "paths and dataclasses": [Path("/a/b"), Exemplar(torch.ones(2), (1, None), {1: {2}})],
}


def alike(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and type(one) is type(other) and np.array_equal(one, other)
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and alike(vars(one), vars(other))
    if isinstance(one, dict):
        return type(one) is type(other) and list(one) == list(other) and all(alike(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple | deque):
        return type(one) is type(other) and len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, int):  # in decimals Python writes so many digits and no more
        return type(one) is type(other) and one == other
    return type(one) is type(other) and repr(one) == repr(other)


@pytest.mark.parametrize("name", KINDS, ids=str)
def test_a_state_comes_back_as_it_was(name):
    assert alike(state.decode_state(state.encode(KINDS[name])), KINDS[name])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (np.random.default_rng(0), "Generator"),
        (np.array([{}]), "object"),
        (lambda: 0, "function"),
        (torch.eye(2).to_sparse(), "layout"),
    ],
    ids=["module", "generator", "objects", "function", "sparse"],
)
def test_what_cannot_come_back_is_refused_by_the_name_of_its_place(value, said):
    with pytest.raises(state.StateError, match="kept'\\]\\[1\\]") as refused:
        state.encode({"kept": [0, value]}, "m.state_dict()")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(6.0).view(2, 3).T,
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(3, 4, 5).permute(2, 0, 1),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    ],
    ids=["transposed", "channels_last", "permuted", "fortran"],
)
def test_a_state_keeps_its_layout_in_memory(value):
    """Sums over another layout round otherwise: One-for-More's scores once moved by 6e-5 of their spread for it."""
    again = state.decode_state(state.encode({"value": value}))["value"]
    layout = (lambda x: x.stride()) if isinstance(value, torch.Tensor) else (lambda x: x.strides)
    assert (again == value).all() and layout(again) == layout(value)


def test_axes_that_are_no_order_are_no_state():
    content = state.encode({"value": torch.arange(6.0).view(2, 3).T})
    with pytest.raises(ValueError, match="axes in the order"):
        state.decode_state(content.replace(b'"order":[1,0]', b'"order":[1,1]'))


def test_a_state_that_holds_itself_is_refused():
    holds: list = []
    holds.append(holds)
    with pytest.raises(state.StateError, match="holds itself"):
        state.encode(holds)


@pytest.mark.parametrize("content", [b"x", b"\x02" + bytes(7) + b"{}", state.encode([torch.ones(3)])[:-1]])
def test_what_is_no_state_is_no_state(content):
    with pytest.raises((ValueError, StopIteration, Exception)):
        state.decode_state(content, classes=False)


def test_a_row_says_what_was_closed_and_that_nothing_was(stream, cache, arrays, tmp_path, monkeypatch):
    one = cell(stream, cache, "finetune", "autoencoder", overrides={"autoencoder": {"epochs": 1}})
    run_cell(one, tmp_path / "closed")
    assert read(tmp_path / "closed", one)["wall"]["confined"]
    monkeypatch.setenv(OFF, "1")
    run_cell(one, tmp_path / "open")
    assert read(tmp_path / "open", one)["wall"] == {"confined": False, "closed": [], "refused": []}
    bare = dataclasses.replace(one, request=dataclasses.replace(one.request, no_wall=True))
    run_cell(bare, tmp_path / "bare")
    record = read(tmp_path / "bare", one)
    assert record["status"] == "ok" and not record["wall"]["confined"], record["reason"]
    assert record["matrices"] == read(tmp_path / "closed", one)["matrices"]
    for folder, barred in (("closed", False), ("open", True)):
        pages = leaderboard.render(tmp_path / folder).values()
        assert any("not confined" in page for page in pages) == barred


def test_test_images_come_without_their_truth(arrays):
    from given import tests as shown

    for image, mask, label, category in shown(arrays, [0]):
        assert image.shape[1:] == (3, 64, 64)
        assert not mask.any() and set(label.tolist()) == set(category.tolist()) == {-1}


def test_class_labels_reach_training_only_if_declared(stream, arrays):
    from given import experiences

    for labels, wanted in ((False, -1), (True, 1)):
        made = experiences(stream, arrays, labels=labels)
        assert made.train_stream[1].dataset[0][3] == wanted
        assert torch.is_tensor(made.train_stream[1].dataset[0][0])


def test_a_method_that_imports_the_inside_of_the_bench_is_refused(bench, tmp_path):
    for line in ("from bench.evaluation import Truth", "import bench.data as data", "from bench import data"):
        (tmp_path / "sly.py").write_text(HEAD.replace("import torch", f"import torch\ndef peek():\n    {line}\n"))
        code, out = bench("run", "--methods", "sly", "--plugin", "sly.py", "--detectors", "autoencoder")
        assert code == 2 and "a method may import only bench.api" in out


def test_joint_training_runs_on_a_stream_of_one_step(cache, tmp_path):
    """There is one set of images to look ahead at, as many as a method that may not look ahead is given."""
    one = Stream("synthetic/one", 1, "synthetic", (("gear", "wood"),), 64, {"train": 6, "good": 4, "anomalous": 4}, "")
    joint = cell(one, cache, "joint", "autoencoder")
    run_cell(joint, tmp_path)
    assert read(tmp_path, joint)["status"] == "ok", read(tmp_path, joint)["reason"]


def test_the_bench_itself_counts_what_a_state_holds():
    held = {"weight": torch.ones(3, 4), "bank": np.zeros((2, 5), "<f4"), "mine": [torch.ones(2), b"abc"], "word": "ab"}
    found = state.entry_sizes(state.encode(held))
    assert {name: numbers for name, (numbers, _) in found.items()} == {"weight": 48, "bank": 40, "mine": 11, "word": 0}
    assert found == state.sizes_of(held)
    told_less = state.encode({"weight": torch.ones(3, 4)}).replace(b'"shape":[3,4]', b'"shape":[0,4]')
    with pytest.raises(ValueError, match="no whole state"):
        state.entry_sizes(told_less)


def test_what_a_method_hides_in_its_detector_is_carried(stream, cache, arrays, tmp_path):
    """And what it says of the detector's size, or of how many parameters there are, does not count."""
    code = """
    def after_training_exp(self, strategy, **_):
        strategy.model.parameters = lambda: iter(())

def build(config: Config, setup: Setup) -> Strategy:
    built = setup.strategy([Cheat()])
    built.model.register_buffer("hidden", torch.zeros(1000))
    return built
"""
    one, _ = cheating(code, stream, cache, tmp_path)
    honest = cell(stream, cache, "finetune", "autoencoder", overrides={"autoencoder": {"epochs": 1}})
    for each in (one, honest):
        run_cell(each, tmp_path / "results")
    (found, bare) = (read(tmp_path / "results", each)["cost"] for each in (one, honest))
    name = len('["hidden",{"tensor":"float32","shape":[0]}]')
    assert found["carried_bytes"] == [4000 + name] * 3 and bare["carried_bytes"] == [0] * 3
    assert found["detector_bytes"] == bare["detector_bytes"] + 4000 + name and found["parameters"] == bare["parameters"]


def test_work_of_a_child_that_nobody_waits_for_is_counted(stream, cache, arrays, tmp_path):
    code = """
    def before_training_exp(self, strategy, **_):
        import time
        here, there = os.pipe()
        if not os.fork():
            if not os.fork():
                while time.process_time() < 0.5:
                    pass
                os.write(there, b"done")
            os._exit(0)
        os.wait(), os.read(here, 4)
"""
    one, _ = cheating(code, stream, cache, tmp_path)
    run_cell(one, tmp_path / "results", at_most=1)
    assert read(tmp_path / "results", one)["cost"]["train_cpu_s"][0] > 0.5


def test_a_thread_and_a_child_that_go_on_are_counted_and_end_with_their_step(stream, cache, arrays, tmp_path):
    code = """
    def after_training_exp(self, strategy, **_):
        import threading, time
        if not os.fork():
            os.setsid()
            while True:
                time.sleep(1)
        def work():
            while time.thread_time() < 0.5:
                pass
        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
    def before_eval(self, strategy, **_):
        if hasattr(self, "thread"):
            self.thread.join()
"""
    one, _ = cheating(code, stream, cache, tmp_path)
    run_cell(one, tmp_path / "results", at_most=1)
    cost = read(tmp_path / "results", one)["cost"]
    assert cost["train_cpu_s"][0] + cost["eval_cpu_s"][0] > 0.5
    assert not psutil.Process(heavy.ready()).children()


def test_what_a_step_prints_is_marked_and_moves_no_cursor(capfd):
    here, there = os.pipe()
    os.write(there, b"\x1b[2Jall cells done\r\nsecond\n")
    os.close(there)
    assert nursery._pass_on(here) and not nursery._pass_on(here)
    assert capfd.readouterr().err == "method: [2Jall cells done\nmethod: second\n"
