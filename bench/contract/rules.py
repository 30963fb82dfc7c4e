"""What a file owes, one function a rule: the first line of its docstring is the rule, and it raises `Broken` or not."""

import inspect
from collections.abc import Callable

import torch
import yaml

from bench import registry, results
from bench.contract.trial import STREAM, Trial, build_trial, config_of, quick, setup_for, test_images, train
from bench.errors import BadInput
from bench.metrics.scoring import PIXEL_METRICS
from bench.registry.declarations import TRAITS
from bench.runner.cell import run_cell
from bench.runner.plan import plan_cells
from bench.schema.request import Request
from bench.training import precision
from bench.training.detector import Detector
from bench.training.strategy import Strategy, checked
from bench.wall import state


class Broken(Exception):  # noqa: N818 - it says what to do
    """A rule does not hold; the text says what to do."""


Rule = Callable[[Trial], None]


def owe(holds: bool, otherwise: str) -> None:
    """Raise `Broken` with the sentence `otherwise` unless something holds."""
    if not holds:
        raise Broken(otherwise)


def says_what_it_is(tried: Trial) -> None:
    """its docstring begins with one line for `bench list`"""
    length = len(tried.entry.summary)
    owe(10 <= length <= 120, f"the first line of the file's docstring has {length} characters: write 10 to 120")


def can_be_loaded(tried: Trial) -> None:
    """it declares what can be read, and can be imported"""
    _ = tried.entry.declared
    tried.entry.load()


def has_a_tiny_size(tried: Trial) -> None:
    """Config.tiny() is a Config, as Config() is"""
    config = tried.entry.load().Config
    tiny = config.tiny()
    owe(isinstance(tiny, config), f"Config.tiny() returns a {type(tiny).__name__}: return cls(...)")
    try:
        config()
    except TypeError as error:
        raise Broken(f"Config() is what the paper uses, so that every option has a default ({error})") from error


def builds_what_it_says(tried: Trial) -> None:
    """build() returns what it is annotated to return"""
    built, wanted = build_trial(*tried.pair), Strategy
    if tried.entry.kind == "detector":
        built, wanted = built.model, Detector
    owe(isinstance(built, wanted), f"build returns a {type(built).__name__}: return a {wanted.__name__}")


def runs_behind_the_wall(tried: Trial) -> None:
    """a cell of three steps runs to its end, each step in a process of its own"""
    manifest = tried.folder / "trial.yaml"
    steps = [list(step) for step in STREAM.steps]
    about = {"version": 1, "reader": STREAM.reader, "image_size": STREAM.image_size, "source": STREAM.source}
    manifest.write_text(yaml.safe_dump(about | {"options": STREAM.options, "steps": steps}))
    method, detector = tried.pair
    overrides: dict[str, dict] = {}
    for part in (method, detector):
        overrides[part.name] = overrides.get(part.name, {}) | quick(part)
    asked = Request(
        (method.name,), (detector.name,), (str(manifest),), overrides=overrides, plugins=tried.plugins,
        size="tiny", cache=tried.folder / "cache", device="cpu",
    )  # fmt: skip
    (cell,) = plan_cells(asked)
    owe(not cell.skip, cell.skip)
    events = []
    run_cell(cell, tried.folder / "results", events.append)
    record = results.read(results.cell_path(tried.folder / "results", cell.spec))
    owe(record["status"] == "ok", f"the cell failed: {record['reason'].strip()}")
    without_maps = "image_level" in detector.declared["TRAITS"]
    for name, matrix in record["matrices"].items():
        told = not (without_maps and name in PIXEL_METRICS)
        for t, row in enumerate(matrix):
            complete = [value == value for value in row] == [told and c <= t for c in range(len(row))]
            owe(complete, f"{name} after step {t + 1} is {row}: maps and scores are told for every class seen")


def goes_on_from_its_state(tried: Trial) -> None:
    """given its state after two steps, a new process learns the third alike"""
    method = tried.pair[0]
    one, two = build_trial(*tried.pair), build_trial(*tried.pair, seed=7)
    train(one, tried.arrays, method=method, last=2)
    for mine, its in zip((one.model, *one.methods), (two.model, *two.methods), strict=True):
        name = type(mine).__name__
        try:
            its.load_state_dict(state.decode_state(state.encode(mine.state_dict(), f"{name}.state_dict()")))
        except (TypeError, KeyError, RuntimeError) as error:
            raise Broken(f"{name} does not take its own state: {error}") from error
    for strategy in (one, two):
        train(strategy, tried.arrays, method=method, first=2)
        strategy.model.eval()
    with torch.no_grad():
        images = test_images(tried.arrays, [0, 2])
        same = torch.equal(one.model.predict(images).score, two.model.predict(images).score)
    plugins = " and ".join(type(each).__name__ for each in one.methods) or "the detector"
    owe(same, f"the scores differ: state_dict of {plugins} lacks something that the third step depends on")


def scores_and_maps_have_their_shapes(tried: Trial) -> None:
    """predict gives finite float32 scores (B,) and maps (B, 1, H, W) that differ between images"""
    said = _said(tried, tried.images)
    checked(said, tried.trained[0].model, tried.images)
    without_maps = "image_level" in tried.entry.declared["TRAITS"]
    owe((said.map is None) == without_maps, "a map is None for detectors with the trait image_level, and only those")
    for what, values in (("score", said.score), ("map", said.map)):
        if values is not None:
            owe(values.dtype == torch.float32, f"the {what} is {values.dtype}: return float32")
            owe(bool(values.isfinite().all()), f"the {what} holds nan or infinity")
    size = tried.images.shape[-2:]
    owe(said.map is None or said.map.shape[-2:] == size, f"maps have {tuple(size)} px, as the images have")
    owe(bool(said.score.std() > 0), "all images have the same score")


def judges_each_image_on_its_own(tried: Trial) -> None:
    """predict gives an image the same score alone and in a batch"""
    together = _said(tried, tried.images).score
    alone = torch.cat([_said(tried, image[None]).score for image in tried.images.flip(0)]).flip(0)
    spread = together.max() - together.min()
    worst = (together - alone).abs().max()
    owe(
        bool(worst <= 1e-3 * spread),
        f"scores move by {worst:.2g} of {spread:.2g} with the other images of the batch: use no statistics of a batch",
    )


def predicting_changes_nothing(tried: Trial) -> None:
    """predict says the same twice, and changes no weight"""
    model = tried.trained[0].model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, again = _said(tried, tried.images), _said(tried, tried.images)
    owe(torch.equal(first.score, again.score), "the second answer differs: draw noise once, from setup.seed")
    owe(
        first.map is None or torch.equal(first.map, again.map),
        "the second maps differ: draw noise once, from setup.seed",
    )
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    owe(not moved, f"predict changed {', '.join(moved[:3])}")


def restores_images(tried: Trial) -> None:
    """reconstruct gives images in 0..1, or None"""
    model = tried.trained[0].model
    with torch.no_grad():
        restored = model.reconstruct(tried.images[:3])
    if restored is not None:
        owe(restored.shape == tried.images[:3].shape, f"it gives {tuple(restored.shape)}: the shape of the images")
        within = restored.isfinite().all() and restored.min() > -0.01 and restored.max() < 1.01
        owe(bool(within), "its values leave 0..1: undo the normalisation")


def learns_and_keeps_frozen_parts(tried: Trial) -> None:
    """training moves something, and nothing that is frozen"""
    strategy, before = tried.trained
    after = strategy.model.state_dict()
    frozen = [name for name, parameter in strategy.model.named_parameters() if not parameter.requires_grad]
    moved = [name for name in after if name not in before or not _same(after[name], before[name])]
    owe(not set(frozen) & set(moved), f"frozen weights moved: {', '.join(sorted(set(frozen) & set(moved))[:3])}")
    owe(bool(moved), "two steps of training changed nothing of its state")


def state_is_complete(tried: Trial) -> None:
    """a detector that is given the state scores alike"""
    torch.manual_seed(99)
    twin = tried.entry.load().build(config_of(tried.entry), setup_for(tried.entry))
    twin.load_state_dict(tried.trained[0].model.state_dict())
    twin.eval()
    with torch.no_grad():
        same = torch.equal(twin.predict(tried.images).score, _said(tried, tried.images).score)
    owe(same, "the scores differ: register as a buffer what predict needs besides the weights")


def same_seed_same_scores(tried: Trial) -> None:
    """trained again from the same seed, it scores alike"""
    again = build_trial(*tried.pair)
    train(again, tried.arrays, method=tried.pair[0], last=2)
    again.model.eval()
    first = _said(tried, tried.images).score  # trained when first asked: not where gradients are switched off
    with torch.no_grad():
        same = torch.equal(again.model.predict(tried.images).score, first)
    owe(same, "the scores differ: draw only from torch's, NumPy's or Python's global generators, or from setup.seed")


def has_its_traits(tried: Trial) -> None:
    """a detector with the trait gradient has an optimizer and a response; others have no optimizer"""
    model, traits = tried.trained[0].model, tried.entry.declared["TRAITS"]
    if "gradient" not in traits:
        owe(model.optimizer() is None, "it has an optimizer: add the trait gradient")
        return
    twin = build_trial(*tried.pair).model.train()  # in training, batch norms move with what they see
    response = twin.response(tried.images[:2])
    owe(any(part.requires_grad for part in response), "its response has no gradient: methods distil it")
    owe(all(len(part) == 2 for part in response), "each part of its response has one row per image, (B, ...)")


def serves_who_asks_for_its_traits(tried: Trial) -> None:
    """a method that asks for one of its traits can train it, and bfloat16 leaves its scores finite"""
    traits = tried.entry.declared["TRAITS"]
    asking = {}
    for method in registry.found_entries("method", tried.plugins).values():
        asking.setdefault(method.declared["REQUIRES"], method)
    for trait in traits:
        owe(trait in asking or trait in TRAITS, f"no method asks for the trait {trait!r}: remove it")
        if trait in asking:
            strategy = build_trial(asking[trait], tried.entry)
            train(strategy, tried.arrays, method=asking[trait], last=2)
    if "bfloat16" in traits:
        reduced = precision.reduce(build_trial(*tried.pair).model, "bfloat16").eval()
        with torch.no_grad():
            owe(
                bool(reduced.predict(tried.images).score.isfinite().all()), "in bfloat16 its scores are nan or infinite"
            )


def lists_what_it_needs(tried: Trial) -> None:
    """samples(root, categories, options) takes three arguments, and NEEDS says what it needs"""
    module = tried.entry.load()
    taken = list(inspect.signature(module.samples).parameters)
    owe(len(taken) == 3, f"samples takes ({', '.join(taken)}): it is called with a folder, class names and options")
    owe(bool(module.__dict__.get("NEEDS")), "write NEEDS = '--data DIR', or what it needs, at the top of the file")


def _said(tried: Trial, images):
    model = tried.trained[0].model  # trained before gradients are switched off
    with torch.no_grad():
        return model.predict(images)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


FILE = (says_what_it_is, can_be_loaded)
PLUGIN = (*FILE, has_a_tiny_size, builds_what_it_says)
RULES: dict[str, tuple[Rule, ...]] = {
    "method": (*PLUGIN, goes_on_from_its_state, runs_behind_the_wall),
    "detector": (
        *PLUGIN,
        scores_and_maps_have_their_shapes,
        judges_each_image_on_its_own,
        predicting_changes_nothing,
        restores_images,
        learns_and_keeps_frozen_parts,
        state_is_complete,
        same_seed_same_scores,
        has_its_traits,
        serves_who_asks_for_its_traits,
        runs_behind_the_wall,
    ),
    "scenario": (*FILE, lists_what_it_needs),
}


def broken(rule: Rule, tried: Trial) -> str:
    """What to do about a rule that does not hold, "" where it does; a crash is told with the file's own last line."""
    try:
        rule(tried)
    except (Broken, BadInput) as error:
        return str(error)
    except Exception as error:
        frames = inspect.getinnerframes(error.__traceback__)
        own = [f"{tried.entry.file.name}:{frame.lineno}" for frame in frames if frame.filename == str(tried.entry.file)]
        return f"{own[-1] if own else tried.entry.file.name}: {type(error).__name__}: {error}"
    return ""
