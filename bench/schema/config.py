"""Turns a module's `Config` and the user's `--set owner.option=value` into one resolved configuration."""

import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import ModuleType

import yaml

from bench.errors import BadInput
from bench.registry import unknown

SIZES = ("tiny", "paper")


def parse(assignments: Iterable[str]) -> dict[str, dict[str, object]]:
    """Read `replay.memory=40` into `{"replay": {"memory": 40}}`.

    Raises:
        BadInput: if an assignment is not of the form owner.option=value.
    """
    overrides: dict[str, dict[str, object]] = {}
    for text in assignments:
        left, equals, value = text.partition("=")
        owner, dot, option = left.partition(".")
        if not (equals and dot and owner and option):
            raise BadInput(f"--set {text!r} is not of the form owner.option=value, for example replay.memory=40.")
        overrides.setdefault(owner, {})[option] = yaml.safe_load(value)
    return overrides


def resolve(owner: str, module: ModuleType, size: str, overrides: Mapping[str, object]):
    """Return `module.Config` at `size` with `overrides` (checked against the type of the default).

    Raises:
        BadInput: for an option that does not exist or a value of another type.
    """
    config = module.Config.tiny() if size == "tiny" else module.Config()
    current = dataclasses.asdict(config)
    for option, value in overrides.items():
        if option not in current:
            raise BadInput(unknown(f"option of {owner}", option, current))
        checked = _as_type_of(current[option], value, f"{owner}.{option}")
        if isinstance(checked, int | float) and checked < 0 <= (current[option] or 0):
            default = current[option]
            raise BadInput(f"{owner}.{option}={value!r} is negative: give 0 or more (the default is {default!r}).")
        current[option] = checked
    return type(config)(**current)


def pair(method: tuple[str, ModuleType], detector: tuple[str, ModuleType], size: str, overrides: Mapping) -> tuple:
    """Resolve the two configurations of a cell. Where both have one name, each takes the options that it has.

    Raises:
        BadInput: as `resolve`.
    """
    (name, module), (other, its_module) = method, detector
    given = overrides.get(name, {})
    if name == other:
        own = {field.name for field in dataclasses.fields(module.Config)}
        its = {option: value for option, value in given.items() if option not in own}
        given = {option: value for option, value in given.items() if option in own}
    else:
        its = overrides.get(other, {})
    return resolve(name, module, size, given), resolve(other, its_module, size, its)


def _as_type_of(default: object, value: object, name: str):
    if default is None or type(value) is type(default):
        return value
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    if type(default) is float and type(value) in (int, str):
        with suppress(ValueError):
            return float(value)  # YAML 1.1 reads 1e-3 as text
    if isinstance(default, tuple):
        text = str(value).replace(" ", "")
        raise BadInput(f"{name}={value!r} is no list, as the option's {default!r} is: write --set '{name}=[{text}]'.")
    raise BadInput(
        f"{name}={value!r} is {type(value).__name__}, but the option is {type(default).__name__}: "
        f"write it like --set {name}={default}."
    )


def variant(overrides: Mapping[str, Mapping[str, object]], owners: Iterable[str]) -> str:
    """A readable suffix for a result folder: `replay.lr=0.01,replay.memory=40`, sorted, of the owners concerned."""
    parts = [f"{owner}.{option}={value}" for owner in owners for option, value in overrides.get(owner, {}).items()]
    return ",".join(sorted(parts)).replace("/", "_").replace(" ", "")
