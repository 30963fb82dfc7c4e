"""DDAD's domain adaptation: the feature network learns to see a reconstruction and its target alike.

For a target y and another normal image x of the same kind, x̂ = R(x, y; w); with F the network and F₀ as it came,
    loss = Σ over layers of d(F(x̂), F(y)) + λ d(F(y), F₀(y)) + λ d(F(x̂), F₀(x̂)),
where d is one minus the cosine of the whole flattened map, and batch norms learn along.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F


def split(images: Iterable[Tensor], held_out: int) -> tuple[Tensor, Tensor]:
    """All images of a step as bytes (N, 3, H, W): those to adapt on, and every k-th, `held_out` or a quarter at most.

    Fewer than four images serve both purposes.
    """
    every = torch.cat([image.mul(255).round().byte().cpu() for image in images])
    count = min(held_out, len(every) // 4)
    if not count:
        return every, every
    kept = torch.zeros(len(every), dtype=torch.bool)
    kept[torch.linspace(0, len(every) - 1, count).long()] = True
    return every[~kept], every[kept]


def adapt(detector, images: Tensor) -> None:
    """Train `detector.features` on `images` (N, 3, H, W) in bytes; everything else of the detector stays as it is."""
    config = detector.config
    optimizer = torch.optim.AdamW(detector.features.parameters(), lr=config.adapt_lr)
    looks = _looks(detector, images)
    for _ in range(config.adapt_epochs):
        for targets, starts in batches(looks, config.adapt_batch // 2, at_random=config.pairs_at_random):
            target, made = _pair(detector, images[targets], images[starts])
            detector.features.train()
            loss = _loss(detector, made, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            detector.features.eval()
    detector.features.zero_grad()


def batches(looks: Tensor, pairs: int, *, at_random: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices of targets and of their partners, `pairs` at a time, the last few left out; each image at most once.

    Half of the images, at random, are targets. A step may bring several classes, and their labels are hidden: partners
    are assigned so that the features `looks` (N, C) of all pairs differ least, which pairs images of one class.
    """
    targets, starts = torch.randperm(len(looks))[: len(looks) // 2 * 2].view(2, -1)
    if not at_random:
        _, partner = linear_sum_assignment(torch.cdist(looks[targets], looks[starts]))
        starts = starts[partner]
    count = max(len(targets) // pairs * pairs, min(len(targets), pairs))
    return zip(targets[:count].split(pairs), starts[:count].split(pairs), strict=True)


@torch.no_grad()
def _looks(detector, images: Tensor) -> Tensor:
    """Mean over places of the deepest feature map of the network as it came: (N, C)."""
    parts = images.split(detector.batch_size)
    return torch.cat([list(detector.frozen(detector.floats(part)).values())[-1].mean((2, 3)).cpu() for part in parts])


def _pair(detector, targets: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and reconstructions as the feature networks see them, (B, 3, H, W) in 0..1."""
    target, start = (detector.scaled(detector.floats(stored)) for stored in (targets, starts))
    noise = [torch.randn_like(start) for _ in range(detector.guided.draws)]
    with detector.reduced():
        made = detector.again(start, target, detector.config.adapt_w, noise).float()
    return detector.seen(target, targets.shape[-1]), detector.seen(made, targets.shape[-1])


def _loss(detector, made: Tensor, target: Tensor) -> Tensor:
    near, hold = _distance, detector.config.adapt_hold
    of_made, of_target = detector.features(made).values(), detector.features(target).values()
    before = near(of_target, detector.frozen(target).values()) + near(of_made, detector.frozen(made).values())
    return near(of_made, of_target) + hold * before


def _distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """One minus the cosine of flattened maps, mean over images, sum over layers."""
    return sum((1 - F.cosine_similarity(one.flatten(1), two.flatten(1))).mean() for one, two in zip(a, b, strict=True))
