"""What every detector owes: found by the registry, a new one adds no line here."""

import inspect

import pytest
import torch
from mini import build, config_of, setup_for, train

from bench import registry
from bench.api import Detector, Strategy
from bench.data import rows_of
from bench.schema.config import resolve

DETECTORS = registry.found("detector")
TRAINED = {}


@pytest.fixture(params=DETECTORS, scope="module")
def entry(request):
    return DETECTORS[request.param]


@pytest.fixture
def trained(entry, stream, arrays) -> Strategy:
    """The detector after two steps of fine-tuning; trained once per detector, and never changed by a test."""
    if entry.name not in TRAINED:
        strategy = build("finetune", entry.name)
        before = {name: value.clone() for name, value in strategy.model.state_dict().items()}
        train(strategy, stream, arrays, last=2)
        TRAINED[entry.name] = (strategy, before)
    strategy, _ = TRAINED[entry.name]
    strategy.model.eval()
    return strategy


@pytest.fixture
def images(arrays):
    rows = rows_of(arrays, [0, 1], train=False)
    return torch.from_numpy(arrays.images[rows[::3]]).movedim(-1, 1).float() / 255


def test_file_says_what_it_is(entry):
    assert 10 <= len(entry.summary) <= 120, "the first docstring line is the row of `bench list`"
    assert entry.declared["TRAITS"], "declare TRAITS, so that methods know what they can do with it"


def test_config_is_frozen_and_has_a_tiny_size(entry):
    module = entry.load()
    assert module.Config.__dataclass_params__.frozen
    assert isinstance(module.Config.tiny(), module.Config)
    assert resolve(entry.name, module, "paper", {}) == module.Config()


def test_every_option_says_its_unit_or_reason(entry):
    source = entry.file.read_text()
    body = source[source.index("class Config") :].split("\n\n    @classmethod")[0]
    for field in inspect.get_annotations(entry.load().Config):  # its own: an inherited one is told where it comes from
        line = next(line for line in body.splitlines() if line.strip().startswith(f"{field}:"))
        assert "#" in line or field in ("epochs", "batch_size", "lr"), line


def test_scores_and_maps_have_the_agreed_shapes(trained, images):
    with torch.no_grad():
        prediction = trained.model.predict(images)
    assert prediction.score.shape == (len(images),)
    if prediction.map is not None:
        assert prediction.map.shape == (len(images), 1, *images.shape[-2:])
    for values in (prediction.score, *([] if prediction.map is None else [prediction.map])):
        assert values.dtype == torch.float32
        assert values.isfinite().all()
    assert prediction.score.std() > 0


def test_each_image_is_judged_on_its_own(trained, images):
    with torch.no_grad():
        together = trained.model.predict(images)
        alone = torch.cat([trained.model.predict(image[None]).score for image in images.flip(0)]).flip(0)
    spread = together.score.max() - together.score.min()
    assert (together.score - alone).abs().max() <= 1e-3 * spread


def test_what_is_restored_are_images(trained, images):
    with torch.no_grad():
        restored = trained.model.reconstruct(images[:3])
    if restored is not None:
        assert restored.shape == images[:3].shape
        assert restored.isfinite().all() and restored.min() > -0.01 and restored.max() < 1.01


def test_predicting_changes_nothing(trained, images):
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    with torch.no_grad():
        first = trained.model.predict(images)
        again = trained.model.predict(images)
    assert torch.equal(first.score, again.score)
    assert (first.map is None and again.map is None) or torch.equal(first.map, again.map)
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())


def test_frozen_parts_stay_bit_identical_and_the_rest_learns(trained, entry):
    before = TRAINED[entry.name][1]
    after = trained.model.state_dict()
    frozen = {name for name, parameter in trained.model.named_parameters() if not parameter.requires_grad}
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    moved = [
        name for name in after if after[name].shape != before[name].shape or not torch.equal(after[name], before[name])
    ]
    assert moved, "two steps of training changed nothing"


def test_state_dict_round_trips_to_the_same_scores(trained, entry, images):
    torch.manual_seed(99)
    twin = entry.load().build(config_of(entry), setup_for(entry))
    twin.load_state_dict(trained.model.state_dict())
    twin.eval()
    with torch.no_grad():
        assert torch.equal(twin.predict(images).score, trained.model.predict(images).score)


def test_same_seed_same_scores(entry, trained, stream, arrays, images):
    again = build("finetune", entry.name)
    train(again, stream, arrays, last=2)
    again.model.eval()
    with torch.no_grad():
        assert torch.equal(again.model.predict(images).score, trained.model.predict(images).score)


def test_gradient_detectors_have_a_response_to_distil(trained, entry, images):
    if "gradient" not in entry.declared["TRAITS"]:
        assert trained.model.optimizer() is None
        return
    assert isinstance(trained.model, Detector)
    trained.model.train()
    response = trained.model.response(images[:2])
    assert any(part.requires_grad for part in response)
    assert all(len(part) == 2 for part in response)
