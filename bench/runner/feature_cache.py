"""Features of frozen networks, kept on disk over methods, seeds and steps: `bench run --feature-cache GB`.

A name on the shelf is made of the network, of the pixels of one image (bench.training.feature_names) and, for some
batches, of their size. Who asks must hold the image: nothing can be got out without it. The size counts because
libraries choose a convolution's kernel by its shape, and kernels differ in their last bits; the other images of a batch
and their places do not count. So the first batch of each size is computed again, in reverse and in batches of
`REFERENCE`: sizes that give the same bits share their features, any other keeps its own. And where images that are
known are computed with others, they must come out the same. A network that fails is not cached.
"""

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.runner.disk_cache import Shelf
from bench.schema.request import BackboneSpec
from bench.training.backbone import Backbone, Maps
from bench.training.experiences import as_float
from bench.training.feature_names import Names, frozen, picture, pixels_of
from bench.training.tokens import from_recipe

FOLDER = "features"  # in the folder of decoded images
REFERENCE = 8  # images
ALIKE, OWN, NEVER = "alike", "own", "never"  # what is kept of batches of a size: features for all sizes, or its own


class FeatureCache:
    """Answers for frozen networks from files in `folder`, at most `limit` bytes; counts images found and computed."""

    def __init__(self, folder: Path, limit: float, backbone: BackboneSpec | None = None, device: str = "cpu"):
        self.shelf, self.names, self.backbone, self.device = Shelf(folder, limit), Names(), backbone, device
        self.hits = self.misses = 0  # images, since the last `lap`
        self.networks: dict[str, Backbone] = {}

    def answer(self, recipe: dict, home: str, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """What a method's frozen network of `recipe` makes of pictures (B, H, W, 3) uint8, by layer.

        It is computed here, by a network that no method can write into: what is kept is true for all of them. Nothing
        if the method's network goes by another name (`home`), or its features have another layout in memory.
        """
        key = json.dumps(recipe)
        if key not in self.networks:
            self.networks[key] = from_recipe(self.backbone, recipe).to(self.device)
        network, image = self.networks[key], as_float(torch.from_numpy(pixels)).to(self.device)
        if self.names.home(network, image) != home:
            return {}
        with torch.no_grad():
            made = self.maps(network, image)
        whole = all(part.is_contiguous() for part in made.values())
        return {layer: part.cpu().numpy() for layer, part in made.items()} if whole else {}

    def lap(self) -> tuple[int, int]:
        """Return the images found and computed so far, and count from zero."""
        counted, self.hits, self.misses = (self.hits, self.misses), 0, 0
        return counted

    def maps(self, network: Backbone, image: Tensor) -> Maps:
        """What `network.compute(image)` returns, to the last bit, computed or found."""
        pixels = None if not frozen(network) else pixels_of(image)
        if pixels is None:
            return network.compute(image)
        home, made = self.names.home(network, image), None
        verdict = self.shelf.told(f"{home}/all") or self.shelf.told(f"{home}/{len(image)}")
        if verdict not in (ALIKE, OWN, NEVER):  # the first batch of its size is computed, and again in reverse
            made, reverse = network.compute(image), image.flip(0)
            wanted = {key: part.flip(0) for key, part in made.items()}
            if not all(part.is_contiguous() for part in made.values()):  # found ones would have another layout
                verdict = NEVER
            elif _same(_in_parts(network, reverse), wanted):
                verdict = ALIKE
            else:
                verdict = OWN if _same(network.compute(reverse), wanted) else NEVER
            self.shelf.note(f"{home}/{len(image)}", verdict)
        if verdict == NEVER:
            self.misses += len(image)
            return made or network.compute(image)
        size = "any" if verdict == ALIKE else f"of-{len(image)}"
        return self._answer(network, image, home, [f"{home}/{size}/{picture(one)}" for one in pixels], verdict, made)

    def _answer(self, network, image: Tensor, home: str, names: list[str], verdict: str, made: Maps | None) -> Maps:
        """Find the features of a batch, compute those of the others (all are computed already if `made`), keep them."""
        found = [self.shelf.read(name) for name in names]
        chosen = list(range(len(image))) if made else _chosen(found, verdict)
        self.hits += len(image) - len(chosen)
        self.misses += len(chosen)
        whole = len(chosen) == len(image)
        if chosen:
            made = made or (network.compute(image) if whole else _in_parts(network, image[chosen]))
            same = True
            for place, index in enumerate(chosen):
                new = {key: part[place].cpu() for key, part in made.items()}
                if found[index] is None:
                    self.shelf.write(names[index], new)
                    found[index] = new
                else:
                    same &= _same(new, found[index])
            if not same:  # known images came out otherwise
                self.shelf.note(f"{home}/all", NEVER)
            if whole or not same:
                return made if whole else network.compute(image)
        stacked = {key: torch.stack([one[key] for one in found]).to(image.device) for key in found[0]}
        return OrderedDict((layer, stacked[layer]) for layer in network.layers)  # who adds up layers has an order


def _same(one: Maps, other: Maps) -> bool:
    return all(torch.equal(part, other[key]) for key, part in one.items())


def _chosen(found: list[Maps | None], verdict: str) -> list[int]:
    """Which images of a batch to compute: the unknown, filled up with known ones, or all if that is no more work."""
    unknown = [index for index, one in enumerate(found) if one is None]
    known = [index for index, one in enumerate(found) if one is not None]
    chosen = sorted(unknown + known[: -len(unknown) % REFERENCE])
    if unknown and (verdict == OWN or len(chosen) + REFERENCE > len(found)):
        return list(range(len(found)))
    return chosen


def _in_parts(network: Backbone, image: Tensor) -> Maps:
    """The features of a batch, computed in batches of `REFERENCE`, the last one filled up with images of its own."""
    parts = []
    for part in image.split(REFERENCE):
        maps = network.compute(part[torch.arange(REFERENCE, device=part.device) % len(part)])
        parts.append({key: value[: len(part)] for key, value in maps.items()})
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
