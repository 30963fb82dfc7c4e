"""What a killed run needs to go on at the next step with the same numbers."""

import os
import shutil
from pathlib import Path

import torch

from bench.errors import BadInput


def save(path: Path, key: str, step: int, strategy, ledger: dict) -> None:
    """Write detector, plugin states and the record after `step`, whole or not at all.

    Raises:
        BadInput: if the disk does not take it.
    """
    state = {
        "key": key,
        "step": step,
        "detector": strategy.model.state_dict(),
        "plugins": [plugin.state_dict() for plugin in strategy.methods],
        "ledger": ledger,
    }
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise BadInput(
            f"checkpoint {path} was not saved ({error}): free some space and run the same command again."
        ) from error


def keep(path: Path, target: Path) -> None:
    """Keep a checkpoint beyond the end of its run: under a second name, or as a copy where there are no links.

    Raises:
        BadInput: if the disk does not take the copy.
    """
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError:
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            raise BadInput(f"{target} was not kept ({error.strerror}): free some space or leave --keep out.") from error


def load(path: Path, key: str, strategy, *, at_most: int | None = None) -> tuple[int, dict | None]:
    """Put `strategy` back where the checkpoint of this very cell left it, if that is after `at_most` steps at most.

    Returns:
        The next step and the record so far; (0, None) if there is nothing to go on from.
    """
    if not path.is_file():
        return 0, None
    try:
        state = torch.load(path, map_location=strategy.device, weights_only=True)
    except Exception:  # whatever a broken file raises: the cell starts again, nothing measured is lost
        return 0, None
    if state["key"] != key or (at_most is not None and state["step"] >= at_most):
        return 0, None
    strategy.model.to(strategy.device).load_state_dict(state["detector"])
    for plugin, saved in zip(strategy.methods, state["plugins"], strict=True):
        plugin.load_state_dict(saved)
    return state["step"] + 1, state["ledger"]
