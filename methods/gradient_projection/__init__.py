"""Gradient projection: weights change only in directions that earlier steps' layer inputs do not have.

Saha et al., Gradient Projection Memory for Continual Learning, arXiv:2103.09762, as One-for-More has it (Li et al.,
arXiv:2502.19848): from the second step on the gradient G of a weight becomes G - G P Pᵀ, where P spans the inputs that
its layer had in earlier steps, and a parameter without such a basis is held. Inputs are those of the detector's own
`replay_forward`, with dropout off and norms as at test time. One-for-More projects the gradient only; what Adam and
weight decay then make of it leaves the allowed directions, so here the step is projected too. Kept between steps: the
bases.

Control: `project=none` holds what has no basis and projects nothing; what it lacks is due to the projection.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from bench.api import BadInput, Plugin, Setup, Strategy, later
from methods._gradients import sample
from methods._without_trace import without_trace
from methods.gradient_projection.columns import Recording, inside, transposed
from methods.gradient_projection.routes import ROUTES
from methods.gradient_projection.span import Span, grow, within

REQUIRES = "gradient"
PROJECT = ("step", "gradient", "none")
RANK = ("reached", "below")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Config:
    project: str = "step"  # "gradient", as published: the optimizer may then leave the allowed directions; or "none"
    route: str = "gram"  # or "isvd", as published: an SVD per image and layer
    every: int = 10  # one training image in so many is looked at, as released
    energy: float = 0.999  # share of the energy of a layer's input in a step that its span must hold
    later_energy: float = 0.5  # share of a later step's span that the basis must cover, as released
    dtype: str = "float32"  # of the bases; "bfloat16" halves them
    on_cpu: bool = False  # keep them in main memory, however little the device has
    max_basis_bytes: int = 0  # of all bases; the vectors with the least energy per byte go first; 0 is no limit
    hold_norms: bool = True  # batch norms keep the running statistics of the first step
    literal: bool = False  # as released: appends columns that are not orthonormal
    rank: str = later("reached")  # vectors until `energy` is; "below", as released: without the one that reaches it

    def __post_init__(self):
        for option, known in (("project", PROJECT), ("route", ROUTES), ("dtype", DTYPES), ("rank", RANK)):
            if getattr(self, option) not in known:
                raise BadInput(f"gradient_projection.{option}={getattr(self, option)!r} is none of {', '.join(known)}.")
        for option in ("energy", "later_energy"):
            if not 0 <= getattr(self, option) <= 1:
                raise BadInput(f"gradient_projection.{option}={getattr(self, option)!r} is no share: give 0 to 1.")
        if self.every < 1:
            raise BadInput(f"gradient_projection.every={self.every!r} looks at no image: give 1 or more.")

    @classmethod
    def tiny(cls) -> "Config":
        return cls(every=4)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([GradientProjection(config)])


class GradientProjection(Plugin):
    """Keeps one basis per trained weight, and every change of the weight at right angles to it."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.spans: dict[str, Span] = {}  # name of a weight -> what its layer has seen

    def before_training_exp(self, strategy, **_):
        """From the second step on, batch norms normalise as they do when testing."""
        self.active = strategy.experience.current_experience > 0
        self.transposed = transposed(strategy.model)
        if self.active and self.config.hold_norms:
            for layer in strategy.model.modules():
                if isinstance(layer, _NormBase):
                    layer.eval()

    @torch.no_grad()
    def before_update(self, strategy, **_):
        """Project the gradients; without one, a parameter is left alone by the optimizer, weight decay included."""
        self.start = {}
        if not self.active:
            return
        for name, weight in strategy.model.named_parameters():
            if name not in self.spans:
                weight.grad = None
            elif weight.grad is not None and self.config.project != "none":
                weight.grad -= self._inside(name, weight.grad)
                if self.config.project == "step":
                    self.start[name] = weight.detach().clone()

    @torch.no_grad()
    def after_update(self, strategy, **_):
        """Take back what the optimizer did inside the spans."""
        weights = dict(strategy.model.named_parameters())
        for name, start in self.start.items():
            weights[name] -= self._inside(name, weights[name] - start)
        self.start = {}

    def _inside(self, name: str, change: Tensor) -> Tensor:
        return inside(change, self.spans[name].vectors.to(change), self.transposed.get(name, 0))

    @torch.no_grad()
    def after_training_exp(self, strategy, **_):
        """Look at a sample of the step's images through the trained layers, and extend the bases by what is new."""
        config, detector = self.config, strategy.model
        route = ROUTES[config.route](config.energy, self._place(strategy), below=config.rank == "below")
        with without_trace(detector), Recording(detector, route.add):
            for image in sample(strategy, -(-len(strategy.experience.dataset) // config.every)):
                detector.replay_forward(image)
                route.end_image()
        for name, span in route.spans().items():
            grown = grow(self.spans.get(name), span, config.later_energy, literal=config.literal)
            self.spans[name] = Span(grown.vectors.to(DTYPES[config.dtype]), grown.shares)
        if config.max_basis_bytes and self.spans:
            self.spans = within(config.max_basis_bytes, self.spans, DTYPES[config.dtype].itemsize)

    def _place(self, strategy) -> torch.device:
        return torch.device("cpu") if self.config.on_cpu else strategy.device

    def state_dict(self) -> dict:
        return {name: span._asdict() for name, span in self.spans.items()}

    def load_state_dict(self, state: dict) -> None:
        self.spans = {name: Span(**parts) for name, parts in state.items()}
        if self.config.on_cpu:
            self.spans = {name: Span(*(part.cpu() for part in span)) for name, span in self.spans.items()}
