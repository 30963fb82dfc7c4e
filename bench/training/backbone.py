"""Frozen timm networks as feature extractors, with weights that are named, checked and never silently random."""

import json
import sys
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest import mock

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import BadInput
from bench.schema.request import BackboneSpec, Weights
from bench.training.detector import freeze
from bench.training.weights import hub_of, in_cache, load_weights

Maps = dict[str, Tensor]
Recall = Callable[["Backbone", Tensor], Maps]  # finds or computes what the network makes of a batch


class BackboneUnfit(BadInput):
    """A backbone does not offer the strides or blocks that a detector asks for."""


class Backbone(nn.Module, ABC):
    """A frozen network behind its input normalisation; can stand in for anomalib's `TimmFeatureExtractor`.

    `layers` names what it gives out; `compute` makes it. Where there is a `recall`, that is asked instead.
    """

    layers: list[str]
    recipe: dict  # with which `from_recipe` makes the same network of the same spec
    trained = False  # whether its weights are to change

    def __init__(self, spec: BackboneSpec, net: nn.Module, recall: Recall | None = None):
        super().__init__()
        self.spec, self.net, self.recall = spec, net if self.trained else freeze(net), recall
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1), persistent=False)

    def train(self, mode: bool = True):
        return self

    @abstractmethod
    def compute(self, image: Tensor) -> Maps:
        """Send a batch (B, 3, H, W) in 0..1 through the network."""

    @torch.no_grad()
    def forward(self, image: Tensor) -> Maps:
        return self.recall(self, image) if self.recall else self.compute(image)

    @contextmanager
    def inside(self, module: str):
        """Let the anomalib model of `module`, built within, use these features instead of downloading its own."""
        with mock.patch(f"{module}.TimmFeatureExtractor", lambda *_, **__: self):
            yield


class Features(Backbone):
    """Maps images (B, 3, H, W) in 0..1 to the backbone's feature maps at the strides asked for, frozen.

    `layers` names them, `channels` and `strides` describe them in the same order; `forward` returns an ordered dict,
    and `out_dims` and `layers` are as in anomalib.
    """

    def __init__(self, spec: BackboneSpec, strides: Sequence[int], recall: Recall | None = None):
        offered = reductions_of(spec, strides)
        net = create(spec, features_only=True, out_indices=[offered.index(stride) for stride in strides])
        super().__init__(spec, net, recall)
        self.strides, self.recipe = tuple(strides), {"strides": list(strides)}
        self.channels = self.out_dims = list(self.net.feature_info.channels())
        self.layers = [f"stride{stride}" for stride in self.strides]

    def compute(self, image: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.net((image - self.mean) / self.std)
        return OrderedDict(zip(self.layers, maps, strict=True))


class Student(Features):
    """The architecture of `teacher`, to be trained from random weights of its own (drawn from the run's seed)."""

    trained = True

    def __init__(self, teacher: Features):
        own = replace(teacher.spec, weights=Weights("random"), seed=int(torch.randint(2**31, ())))
        super().__init__(own, teacher.strides)

    def forward(self, image: Tensor) -> OrderedDict[str, Tensor]:
        return self.compute(image)

    def train(self, mode: bool = True):
        return nn.Module.train(self, mode)


class Embedder(nn.Module):
    """The whole network with its weights, to be trained: images (B, 3, H, W) in 0..1 to embeddings (B, `width`).

    An embedding is what timm's classifier would see: the class token, or the mean over the places.
    """

    def __init__(self, spec: BackboneSpec):
        super().__init__()
        self.net = create(spec, num_classes=0)
        self.width = self.net.num_features
        # px that a transformer's positions are made for; 0 where any will do
        self.side = self.net.patch_embed.img_size[0] if hasattr(self.net, "patch_embed") else 0
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        if self.side and image.shape[-1] != self.side:
            image = F.interpolate(image, (self.side, self.side), mode="bilinear", antialias=True)
        return self.net((image - self.mean) / self.std)


def create(spec: BackboneSpec, **kwargs) -> nn.Module:
    """Return the timm network with the weights that `spec` names; `kwargs` are timm's.

    Raises:
        BadInput: for a name, arguments or weights that do not exist or do not fit.
    """
    pretrained = spec.weights.kind == "imagenet"
    if pretrained and not in_cache(source := hub_of(spec.name)):
        print(f"fetching the weights of {spec.name} ({source}); without a network this takes a while", file=sys.stderr)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)  # random weights must not depend on what was drawn before
        net = _timm(spec, pretrained=pretrained, **kwargs)
    if spec.weights.file:

        def whole() -> nn.Module:
            with torch.device("meta"):
                return _timm(spec)

        load_weights(net, whole, spec.name, Path(spec.weights.file))
    return net


def reductions_of(spec: BackboneSpec, wanted: Sequence[int]) -> list[int]:
    """Strides of a network's feature maps, without its weights.

    Raises:
        BackboneUnfit: where one that is wanted is not among them.
    """
    offered = _offered(spec.name, json.dumps(spec.arguments))
    for stride in wanted:
        if stride not in offered:
            raise BackboneUnfit(f"backbone {spec.name!r} has no features at stride {stride}; it offers {offered}.")
    return offered


@cache
def _offered(name: str, arguments: str) -> list[int]:
    """The strides of a network, which is built for it without weights; `arguments` in JSON, as a cell has them."""
    with torch.device("meta"):
        net = _timm(BackboneSpec(name, Weights("random"), json.loads(arguments)), features_only=True)
    return net.feature_info.reduction()


def _timm(spec: BackboneSpec, **kwargs) -> nn.Module:
    if not timm.is_model(spec.name.partition(".")[0]):
        raise BadInput(
            f"no timm backbone {spec.name!r}; `python -c 'import timm; print(timm.list_models())'` lists them."
        )
    try:
        return timm.create_model(spec.name, **spec.arguments, **kwargs)
    except TypeError as error:
        raise BadInput(f"backbone {spec.name!r} does not take {spec.arguments}: {error}.") from error
    except (OSError, RuntimeError) as error:  # what timm and the hub raise when weights cannot be fetched
        raise BadInput(
            f"the pretrained weights of {spec.name!r} are not at hand ({type(error).__name__}): fetch them once with "
            f"network by `python -c \"import timm; timm.create_model('{spec.name}', pretrained=True)\"`, "
            f"or give a local file with --weights FILE.safetensors."
        ) from error
