"""Gradient projection: what is protected stays bit for bit as good as it was, and everything kept is counted."""

import copy
import math

import pytest
import torch
from given import held_bytes
from timm.layers import Conv2dSame
from torch import nn
from toy import IMAGES, Noisy, assert_continues, images, same, strategy, train

from bench.api import Detector, Prediction, trainable
from bench.errors import BadInput
from methods import finetune, gradient_projection
from methods.gradient_projection import routes
from methods.gradient_projection.columns import Recording, inside, transposed
from methods.gradient_projection.routes import ROUTES, Gram, IterativeSvd
from methods.gradient_projection.span import Span, grow, leading, within

pytestmark = pytest.mark.slow

EVERYTHING = {"every": 1, "energy": 1.0, "later_energy": 1.0}


class Wide(Detector):
    """An auto-encoder with far more inputs than a step has images, so that its spans leave room to learn."""

    epochs, batch_size = 4, 4
    optimise = staticmethod(lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.5))

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(192, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Linear(96, 192))
        self.unused = nn.Parameter(torch.ones(2))

    def optimizer(self):
        return self.optimise(trainable(self))

    def response(self, image):
        return [self.net(image).view_as(image)]

    def loss(self, image):
        return (self.response(image)[0] - image).square().mean()

    def predict(self, image):
        error = (self.response(image)[0] - image).square().mean(1, keepdim=True)
        return Prediction(error.amax((1, 2, 3)), error)


class Decaying(Wide):
    optimise = staticmethod(lambda weights: torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.1))


def responses(model: Detector, step: int) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model.response(images(step))[0]


def error_of(span: Span) -> float:
    """How far PᵀP is from the identity."""
    P = span.vectors.float()
    return (P.T @ P - torch.eye(P.shape[1])).abs().max().item()


def projector(span: Span) -> torch.Tensor:
    return span.vectors @ span.vectors.T


LAYERS = {
    "linear": (nn.Linear(40, 5), (1, 7, 40)),
    "conv": (nn.Conv2d(6, 5, 3, 2, 1), (1, 6, 7, 9)),
    "rectangular, dilated": (nn.Conv2d(6, 5, (3, 2), (1, 2), (2, 0), (2, 1)), (1, 6, 6, 7)),
    "grouped": (nn.Conv2d(6, 4, 3, groups=2), (1, 6, 4, 5)),
    "depthwise": (nn.Conv2d(6, 6, 5, padding=1, groups=6), (1, 6, 4, 3)),
    "reflecting": (nn.Conv2d(6, 5, 3, padding=1, padding_mode="reflect"), (1, 6, 5, 4)),
    "same": (nn.Conv2d(6, 5, (2, 4), padding="same", dilation=(1, 2)), (1, 6, 5, 4)),
    "same of timm": (Conv2dSame(6, 5, 3, stride=2), (1, 6, 7, 8)),
    "transposed": (nn.ConvTranspose2d(6, 5, 4, 2, 1), (1, 6, 3, 4)),
    "transposed, odd": (nn.ConvTranspose2d(6, 5, (3, 2), (2, 3), (1, 0), (1, 2)), (1, 6, 3, 4)),
    "transposed, grouped, dilated": (nn.ConvTranspose2d(6, 4, 3, 2, groups=2, dilation=2), (1, 6, 2, 3)),
    "transposed, cut": (nn.ConvTranspose2d(6, 5, 2, 2, 2), (1, 6, 5, 5)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LAYERS)
def test_a_change_at_right_angles_to_the_columns_leaves_the_output(name):
    """And what lies inside their span is all that the output can tell of a change."""
    layer, shape = copy.deepcopy(LAYERS[name][0]).double(), LAYERS[name][1]
    torch.manual_seed(0)
    image, found = torch.randn(shape, dtype=torch.float64), []
    if len(shape) == 4:  # channels that are multiples of one another, so that patches do not span everything
        image = image[:, :1] * torch.randn(shape[1], 1, 1, dtype=torch.float64)
    with Recording(layer, lambda _, columns: found.append(columns)), torch.no_grad():
        before = layer(image)
    change = torch.randn_like(layer.weight)
    gram = Gram(1.0, "cpu")
    gram.add("weight", found[0])
    basis = gram.spans()["weight"].vectors
    groups = transposed(nn.Sequential(layer)).get("0.weight", 0)
    spanned = inside(change, basis, groups)
    assert basis.shape[1] < basis.shape[0]
    assert (change - spanned).norm() > 0.1 * change.norm()
    assert inside(change - spanned, basis, groups).abs().max() < 1e-10
    with torch.no_grad():
        layer.weight += change - spanned
        assert (layer(image) - before).abs().max() < 1e-6
        layer.weight += spanned
        assert (layer(image) - before).abs().max() > 0.1


@pytest.mark.parametrize("name", ["linear", "conv", "reflecting", "same", "same of timm", "transposed, odd"])
@pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")  # torch: once per process
def test_the_columns_are_what_the_weight_multiplies(name):
    layer, shape = LAYERS[name]
    image, found = torch.randn(shape), []
    with Recording(layer, lambda _, columns: found.append(columns)), torch.no_grad():
        made = layer(image)
    rows = layer.weight.transpose(0, 1) if name.startswith("transposed") else layer.weight
    product = rows.flatten(1) @ found[0] + layer.bias[:, None]
    expected = made.flatten(0, -2).T if name == "linear" else made[0].flatten(1)
    assert torch.allclose(product, expected, atol=1e-5)


def test_only_trained_weights_are_recorded():
    detector, found = Noisy(), []
    with Recording(detector, lambda name, _: found.append(name)), torch.no_grad():
        detector.loss(images(0))
    assert found == ["net.0.weight", "net.4.weight"]


def data(images: int = 6) -> list[torch.Tensor]:
    """Columns (60, 8) of images that share a space of 20 dimensions."""
    generator = torch.Generator().manual_seed(1)
    space = torch.randn(60, 20, generator=generator)
    return [space @ torch.randn(20, 8, generator=generator) for _ in range(images)]


def span_by(route, columns, energy=1.0) -> Span:
    summary = route(energy, "cpu")
    for one in columns:
        for part in one.split(3, 1):  # a layer that runs several times per image
            summary.add("layer", part)
        summary.end_image()
    return summary.spans()["layer"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("scale", [1, 1000])
def test_at_full_energy_each_route_spans_what_one_svd_of_everything_spans(route, scale):
    found = span_by(ROUTES[route], [scale * columns for columns in data()])
    U = torch.linalg.svd(torch.cat(data(), 1))[0][:, :20]
    assert found.vectors.shape == (60, 20)
    # Beside columns `scale` times as long, float32 leaves the unit vectors kept so far off by so much more.
    assert torch.allclose(projector(found), U @ U.T, atol=1e-5 + 1e-6 * scale)
    assert error_of(found) < 1e-5
    assert found.shares.sum() == pytest.approx(1, abs=1e-5)


def test_a_layer_of_many_inputs_is_added_up_in_parts(monkeypatch):
    whole = span_by(Gram, data(), 0.99)
    monkeypatch.setattr(routes, "ROWS", 7)
    parts = span_by(Gram, data(), 0.99)
    assert torch.allclose(projector(parts), projector(whole), atol=1e-5)
    assert torch.allclose(parts.shares, whole.shares, atol=1e-6)


@pytest.mark.parametrize("count", [40, 60, 400])
def test_left_singular_vectors_are_those_of_an_svd_however_many_columns_there_are(count):
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(60, count, generator=generator) * torch.logspace(0, -3, 60)[:, None]
    vectors, energies = routes._left_singular(columns)
    U, S, _ = torch.linalg.svd(columns.double(), full_matrices=False)
    assert torch.allclose(energies.double(), S.square(), rtol=1e-4, atol=1e-6 * S[0].item() ** 2)
    for kept in (5, 20):
        ours, wanted = (basis[:, :kept] @ basis[:, :kept].T for basis in (vectors.double(), U))
        assert torch.allclose(ours, wanted, atol=1e-4)


def test_of_one_image_both_routes_keep_the_same_directions():
    gram, isvd = (span_by(route, data(1), 0.9) for route in (Gram, IterativeSvd))
    assert gram.vectors.shape == isvd.vectors.shape
    assert 1 < gram.vectors.shape[1] < 8
    assert torch.allclose(projector(gram), projector(isvd), atol=1e-4)
    assert torch.allclose(gram.shares, isvd.shares, atol=1e-4)


def test_the_span_holds_the_energy_asked_for_and_no_vector_more():
    span = leading(torch.eye(4), torch.tensor([8.0, 1.0, 0.9, 0.1]), 0.9, 1e-6)
    assert span.shares.tolist() == pytest.approx([0.8, 0.1])
    assert leading(torch.eye(4), torch.tensor([8.0, 1.0, 1e-6, 0.0]), 1.0, 1e-6).vectors.shape == (4, 2)


def unit(*axes: int, of: int = 6) -> Span:
    return Span(torch.eye(of)[:, list(axes)], torch.full((len(axes),), 1 / len(axes)))


def test_the_rank_as_released_ends_before_the_energy_is_reached():
    energies = torch.tensor([5.0, 3.0, 1.0, 1.0])
    for threshold, usual, released in ((0.85, 3, 2), (0.4, 1, 1), (1.0, 4, 3)):
        found = [leading(torch.eye(4), energies, threshold, 1e-7, below=below).shares for below in (False, True)]
        assert [len(shares) for shares in found] == [usual, released]
    ranks = {}
    for rank in gradient_projection.RANK:
        built = strategy(gradient_projection, Wide, rank=rank, route="isvd", every=1)
        train(built, last=1)
        ranks[rank] = built.methods[0].spans["net.1.weight"].vectors.shape[1]
    assert ranks["below"] < ranks["reached"]


def test_the_control_projects_nothing_and_holds_what_has_no_basis():
    built = strategy(gradient_projection, Decaying, project="none", **EVERYTHING)
    train(built, last=1)
    before, gradients = copy.deepcopy(built.model.state_dict()), []
    plugin, hook = built.methods[0], built.methods[0].before_update

    def spied(strategy, **kwargs):
        weight = strategy.model.net[1].weight
        given = weight.grad.clone()
        hook(strategy, **kwargs)
        gradients.append(torch.equal(weight.grad, given))

    plugin.before_update = spied
    train(built, first=1, last=2)
    after = built.model.state_dict()
    assert gradients and all(gradients)
    assert all(torch.equal(after[name], before[name]) == (name not in plugin.spans) for name in after)


def test_a_basis_grows_by_what_the_new_span_adds():
    grown = grow(unit(0, 1), unit(1, 2, 3), 1.0)
    assert torch.allclose(projector(grown), projector(unit(0, 1, 2, 3)), atol=1e-6)
    assert grow(unit(0, 1), unit(1, 2, 3), 0.6).vectors.shape == (6, 3)  # one of three was covered, two are enough
    assert grow(unit(0, 1), unit(1, 2, 3), 0.3).vectors.shape == (6, 2)
    first = unit(4)
    assert grow(None, first, 0.5) is first


def random_span(columns: int, seed: int, of: int = 30) -> Span:
    torch.manual_seed(seed)
    return Span(torch.linalg.qr(torch.randn(of, columns)).Q, torch.full((columns,), 1 / columns))


def test_a_basis_stays_orthonormal_and_ends_at_full_rank():
    basis = None
    for step in range(5):
        basis = grow(basis, random_span(8, step), 1.0)
        assert basis.vectors.shape == (30, min(30, 8 * (step + 1)))
        assert len(basis.shares) == basis.vectors.shape[1]
        assert error_of(basis) < 1e-5


def test_the_columns_as_released_are_not_orthonormal():
    wrong = grow(random_span(8, 0), random_span(8, 1), 1.0, literal=True)
    right = grow(random_span(8, 0), random_span(8, 1), 1.0)
    assert wrong.vectors.shape == right.vectors.shape
    assert error_of(wrong) > 0.1
    assert error_of(right) < 1e-5
    G = torch.randn(4, 30)
    assert (inside(G - inside(G, right.vectors), right.vectors)).abs().max() < 1e-5
    assert (inside(G - inside(G, wrong.vectors), wrong.vectors)).abs().max() > 0.1


def test_the_first_step_is_fine_tuning_bit_for_bit():
    """Dropout, batch norm, three generators: looking at the images leaves no trace either."""
    ends = []
    for method in (gradient_projection, finetune):
        built = strategy(method)
        train(built, last=1)
        ends.append((copy.deepcopy(built.model), torch.get_rng_state()))
        train(built, first=1, last=2)
        ends.append((built.model, None))
    (one, state_one), (one_later, _), (two, state_two), (two_later, _) = ends
    assert same(one, two)
    assert torch.equal(state_one, state_two)
    assert not same(one_later, two_later)


@pytest.mark.parametrize(("detector", "project"), [(Wide, "step"), (Wide, "gradient"), (Decaying, "step")])
def test_with_all_energy_the_response_to_earlier_images_stays(detector, project):
    built = strategy(gradient_projection, detector, project=project, **EVERYTHING)
    train(built, last=1)
    before, new = responses(built.model, 0), responses(built.model, 1)
    train(built, first=1, last=2)
    assert ((responses(built.model, 0) - before).norm() / before.norm()).item() < 1e-4
    assert ((responses(built.model, 1) - new).norm() / new.norm()).item() > 1e-2, "it must still learn"
    train(built, first=2)
    assert ((responses(built.model, 0) - before).norm() / before.norm()).item() < 2e-4


def test_what_adam_and_weight_decay_do_inside_the_span_is_undone():
    moved = {}
    for project in gradient_projection.PROJECT:
        built = strategy(gradient_projection, Decaying, project=project, **EVERYTHING)
        train(built, last=1)
        start, span = built.model.net[1].weight.detach().clone(), built.methods[0].spans["net.1.weight"]
        train(built, first=1, last=2)
        change = built.model.net[1].weight.detach() - start
        moved[project] = (inside(change, span.vectors).norm() / change.norm()).item()
    assert moved["step"] < 1e-3
    assert moved["gradient"] > 0.1


def test_what_has_no_basis_is_held_from_the_second_step_on():
    built = strategy(gradient_projection, Decaying, **EVERYTHING)
    train(built, last=1)
    before = copy.deepcopy(built.model.state_dict())
    train(built, first=1)
    spans, after = built.methods[0].spans, built.model.state_dict()
    assert set(spans) == {"net.1.weight", "net.4.weight"}
    assert all(torch.equal(after[name], before[name]) == (name not in spans) for name in after)


def test_batch_norms_follow_the_new_step_if_not_held():
    built = strategy(gradient_projection, Wide, hold_norms=False, **EVERYTHING)
    train(built, last=1)
    before = built.model.net[2].running_mean.clone()
    train(built, first=1, last=2)
    assert not torch.equal(built.model.net[2].running_mean, before)


@pytest.mark.parametrize("options", [{}, {"route": "isvd", "dtype": "bfloat16", "on_cpu": True}])
def test_state_dict_continues_to_the_same_weights(options):
    one, two = strategy(gradient_projection, Wide, **options), strategy(gradient_projection, Wide, seed=7, **options)
    assert_continues(one, two)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_carried_bytes_are_those_of_the_bases_and_a_share_per_vector(dtype, size):
    built = strategy(gradient_projection, Wide, dtype=dtype, **EVERYTHING)
    for step in range(2):
        train(built, first=step, last=step + 1)
        state = built.methods[0].state_dict()
        ranks = {name: part["vectors"].shape[1] for name, part in state.items()}
        assert ranks["net.1.weight"] == IMAGES * (step + 1)
        expected = ranks["net.1.weight"] * (192 * size + 4) + ranks["net.4.weight"] * (96 * size + 4)
        assert held_bytes(state) == expected


def test_a_budget_keeps_the_vectors_with_most_energy_per_byte():
    spans = {
        "narrow": Span(torch.eye(4)[:, :3], torch.tensor([0.7, 0.2, 0.1])),  # 20 bytes each
        "wide": Span(torch.eye(16)[:, :3], torch.tensor([0.9, 0.05, 0.05])),  # 68 bytes each
    }
    kept = within(20 * 2 + 68, spans, 4)
    assert kept["narrow"].shares.tolist() == pytest.approx([0.7, 0.2])
    assert kept["wide"].shares.tolist() == pytest.approx([0.9])
    assert torch.equal(kept["wide"].vectors, torch.eye(16)[:, :1])
    assert within(10, spans, 4)["wide"].vectors.shape == (16, 0)


def test_a_run_stays_within_its_budget():
    built = strategy(gradient_projection, Wide, max_basis_bytes=9000, **EVERYTHING)
    for step in range(3):
        train(built, first=step, last=step + 1)
        carried = held_bytes(built.methods[0].state_dict())
        assert 9000 - 4 * (192 + 1) < carried <= 9000


def test_a_detector_may_show_more_than_its_loss():
    class Sampling(Wide):
        def replay_forward(self, image):
            for strength in (0.1, 0.5, 1.0):
                self.response(image.square() * strength + 0.1)

    ranks = []
    for detector in (Wide, Sampling):
        built = strategy(gradient_projection, detector, **EVERYTHING)
        train(built, last=1)
        ranks.append(built.methods[0].spans["net.1.weight"].vectors.shape[1])
    assert ranks == [IMAGES, IMAGES + 1]  # a constant joins


def test_a_loss_may_hook_into_its_graph():
    class Hooked(Wide):
        def loss(self, image):
            made = self.response(image)[0]
            made.register_hook(lambda gradient: 2 * gradient)
            return (made - image).square().mean()

    built = strategy(gradient_projection, Hooked, **EVERYTHING)
    train(built, last=2)
    assert built.methods[0].spans["net.1.weight"].vectors.shape[1] == 2 * IMAGES


def test_a_sample_of_the_images_is_looked_at():
    for every in (1, 5, IMAGES + 1):
        built = strategy(gradient_projection, Wide, **EVERYTHING | {"every": every})
        train(built, last=1)
        assert built.methods[0].spans["net.1.weight"].vectors.shape[1] == math.ceil(IMAGES / every)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("rank", "above", "gradient_projection.rank='above' is none of reached, below"),
        ("project", "weights", "gradient_projection.project='weights' is none of step, gradient, none"),
        ("route", "svd", "gradient_projection.route='svd' is none of gram, isvd"),
        ("dtype", "int8", "gradient_projection.dtype='int8' is none of float32, bfloat16"),
        ("energy", 1.5, "gradient_projection.energy=1.5 is no share: give 0 to 1"),
        ("every", 0, "gradient_projection.every=0 looks at no image"),
    ],
)
def test_wrong_options_are_named(option, value, sentence):
    with pytest.raises(BadInput, match=sentence):
        gradient_projection.Config(**{option: value})
