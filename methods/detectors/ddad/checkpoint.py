"""Reads a U-Net saved by DDAD's code: its names are turned into diffusers'."""

import pickle
from collections.abc import Iterator

import torch
from diffusers import UNet2DModel
from torch import Tensor

from bench.api import BadInput

RESIDUAL = {  # theirs -> diffusers'
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "embed_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ATTENTION = {"norm": "group_norm", "proj_out": "to_out.0"}
OUTSIDE = {
    "time_embedding.1": "time_embedding.linear_1",
    "time_embedding.3": "time_embedding.linear_2",
    "down.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


def load(net: UNet2DModel, file: str) -> None:
    """Load `file`, a state dict with or without the prefix "module.", into `net`.

    Raises:
        BadInput: if it cannot be read or belongs to another layout.
    """
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
        theirs = {name.removeprefix("module."): weight for name, weight in saved.items()}
        net.load_state_dict(converted(net, theirs))
    except (OSError, pickle.UnpicklingError, AttributeError) as error:
        raise BadInput(f"ddad.checkpoint={file!r} cannot be read ({error}): give a file of torch.save.") from error
    except (KeyError, RuntimeError) as error:
        raise BadInput(
            f"ddad.checkpoint={file!r} does not fit this U-Net ({error}): set ddad.width, multipliers, layers, heads "
            "and resolution to those that it was trained with, or use ddad_s."
        ) from error


def converted(net: UNet2DModel, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by diffusers' names. Raises KeyError for one that is absent."""
    names = renamed(net)
    state = {}
    for ours in net.state_dict():
        module, _, kind = ours.rpartition(".")
        if (place := "qkv".find(module[-1])) >= 0 and module.endswith(f"to_{module[-1]}"):
            attention = net.get_submodule(module.rpartition(".")[0])
            state[ours] = _part(theirs[f"{names[module[:-5]]}.to_qkv.{kind}"], place, attention.heads)
        else:
            weight = theirs[f"{names[module]}.{kind}"]
            state[ours] = weight[..., 0] if weight.ndim == 3 else weight  # 1-d convolution to linear layer
    return state


def _part(packed: Tensor, place: int, heads: int) -> Tensor:
    """Query, key or value (C, ...) of a packed layer (3 C, ..., 1): all three of one head, then those of the next."""
    part = packed.view(heads, 3, -1, *packed.shape[1:])[:, place].flatten(0, 1)
    return part[..., 0] if part.ndim == 3 else part


def renamed(net: UNet2DModel) -> dict[str, str]:
    """Module of diffusers -> module of theirs; attentions with their queries, keys and values go by their own name."""
    names = {ours: theirs for theirs, ours in OUTSIDE.items()}
    for theirs, ours in _blocks(net):
        inside = ATTENTION if "attentions" in ours else RESIDUAL
        names |= {ours: theirs} | {f"{ours}.{own}": f"{theirs}.{their}" for their, own in inside.items()}
    return names


def _blocks(net: UNet2DModel) -> Iterator[tuple[str, str]]:
    """Their name and ours of every residual block and attention, in the order of the data."""
    yield from zip(
        ("middle.0", "middle.1", "middle.2"),
        ("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"),
        strict=True,
    )
    place = 1
    for i, block in enumerate(net.down_blocks):
        for j in range(len(block.resnets)):
            yield from _layer(f"down.{place}", f"down_blocks.{i}", j, block)
            place += 1
        if block.downsamplers:
            yield f"down.{place}.0", f"down_blocks.{i}.downsamplers.0"
            place += 1
    place = 0
    for i, block in enumerate(net.up_blocks):
        for j in range(len(block.resnets)):
            yield from _layer(f"up.{place}", f"up_blocks.{i}", j, block)
            place += 1
        if block.upsamplers:
            yield f"up.{place - 1}.{1 + hasattr(block, 'attentions')}", f"up_blocks.{i}.upsamplers.0"


def _layer(theirs: str, ours: str, j: int, block) -> Iterator[tuple[str, str]]:
    yield f"{theirs}.0", f"{ours}.resnets.{j}"
    if hasattr(block, "attentions"):
        yield f"{theirs}.1", f"{ours}.attentions.{j}"
