"""Weights from a file of one's own: safetensors or what torch saves, in timm's names or in those that timm converts."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.errors import BadInput

INSIDE = ("state_dict", "model_state_dict", "model")  # where training programs keep the tensors
COUNTER = "num_batches_tracked"  # of batch normalisation; files from before PyTorch 0.4.1 have none, nothing reads it


def hub_of(backbone: str) -> str:
    """Where timm would fetch the weights of a network from; "" if from nowhere."""
    found = timm.get_pretrained_cfg(backbone)
    return (found.hf_hub_id or "") if found else ""


def in_cache(source: str) -> bool:
    """Whether a model is at hand: a folder, or a name of the hub that was fetched before."""
    folder = Path(constants.HF_HUB_CACHE) / f"models--{source.replace('/', '--')}" / "snapshots"
    return Path(source).is_dir() or any(folder.glob("*/*"))


def load_weights(net: nn.Module, whole: Callable[[], nn.Module], name: str, file: Path) -> None:
    """Fill `net` from a file; `whole` makes the timm network `name` with its classifier, of which `net` is a part.

    Raises:
        BadInput: for a file that cannot be read, or that does not fit.
    """
    state = _read(file)
    if not all(key in state or key.endswith(COUNTER) for key in net.state_dict()):  # in its authors' names
        module = sys.modules[timm.models.model_entrypoint(name.partition(".")[0]).__module__]
        if convert := getattr(module, "checkpoint_filter_fn", None):
            try:
                state = convert(state, whole())
            except (KeyError, RuntimeError, ValueError, IndexError, AttributeError, TypeError) as error:
                raise BadInput(
                    f"weights {file.name!r} do not fit backbone {name!r} ({type(error).__name__}: {error}); "
                    "name the right --backbone."
                ) from error
        # timm wraps a network for its feature maps: stages.0.x becomes stages_0.x or model.stages.0.x
        flat = {key.replace(".", "_"): value for key, value in state.items()}
        names = {key: key.removeprefix("model.").replace(".", "_") for key in net.state_dict()}
        state = {key: flat[plain] for key, plain in names.items() if plain in flat}
    wanted = {key: value for key, value in net.state_dict().items() if not key.endswith(COUNTER)}
    absent = [key for key in wanted if key not in state]
    if absent:
        raise BadInput(
            f"weights {file.name!r} do not fit backbone {name!r}: "
            f"{len(absent)} of {len(wanted)} tensors are absent, the first is {absent[0]!r}; name the right --backbone."
        )
    wrong = [key for key in wanted if state[key].shape != wanted[key].shape]
    if wrong:
        raise BadInput(
            f"weights {file.name!r} do not fit backbone {name!r}: {wrong[0]!r} is "
            f"{tuple(state[wrong[0]].shape)}, not {tuple(wanted[wrong[0]].shape)}; name the right --backbone."
        )
    net.load_state_dict({key: state[key].float() for key in wanted}, strict=False)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            content = load_file(file)
        else:  # nothing but tensors and plain containers: what is in the file cannot run
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise BadInput(
            f"the weights {file.name!r} cannot be read safely ({type(error).__name__}: {reason}): "
            "give a .safetensors file, or a .pth file that holds tensors only."
        ) from error
    for key in INSIDE:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise BadInput(f"the weights {file.name!r} hold a {type(content).__name__}, not tensors by name: save those.")
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise BadInput(f"the weights {file.name!r} hold no tensors: give a file of weights.")
    if all(key.startswith("module.") for key in state):  # of DataParallel
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state
