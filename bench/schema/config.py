"""Turns a module's `Config` and the user's `--set owner.option=value` into one resolved configuration."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import ModuleType

import yaml

from bench.errors import BadInput
from bench.registry import unknown

SIZES = ("tiny", "paper")
AS_RELEASED = "as_released"  # set like an option: all that `AS_RELEASED` of the file says the authors' code does


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


def later(default):
    """A field of a `Config` that came after cells had been measured: at its default it stays out of the spec, so that
    those cells keep their keys and share a row with new ones."""
    return dataclasses.field(default=default, metadata={"later": True})


def recorded(config) -> dict[str, object]:
    """The options of a configuration as a spec holds them: all but those that came `later` and have their default."""
    later = {field.name: field.default for field in dataclasses.fields(config) if field.metadata.get("later")}
    values = dataclasses.asdict(config)
    return {name: value for name, value in values.items() if name not in later or value != later[name]}


def resolve(owner: str, module: ModuleType, size: str, overrides: Mapping[str, object]):
    """Return `module.Config` at `size` with `overrides` (checked against the type of the default).

    `as_released=true` sets the options that the authors' code has otherwise; what is given besides wins.

    Raises:
        BadInput: for an option that does not exist or a value of another type.
    """
    config = module.Config.tiny() if size == "tiny" else module.Config()
    current, given = dataclasses.asdict(config), dict(overrides)
    asked, released = given.pop(AS_RELEASED, False), getattr(module, "AS_RELEASED", {})
    if not isinstance(asked, bool):
        raise BadInput(f"{owner}.{AS_RELEASED}={asked!r} is neither true nor false.")
    if asked and not released:
        raise BadInput(
            f"{owner}.{AS_RELEASED}: nothing is told of {owner} that its authors' code does otherwise; leave it out."
        )
    for option, value in (released | given if asked else given).items():
        if option not in current:
            raise BadInput(unknown(f"option of {owner}", option, current))
        checked = _as_type_of(current[option], value, f"{owner}.{option}")
        if isinstance(checked, int | float) and checked < 0 <= (current[option] or 0):
            default = current[option]
            raise BadInput(f"{owner}.{option}={value!r} is negative: give 0 or more (the default is {default!r}).")
        current[option] = checked
    return type(config)(**current)


def configured_pair(
    method: tuple[str, ModuleType], detector: tuple[str, ModuleType], size: str, overrides: Mapping
) -> tuple:
    """Resolve the two configurations of a cell. Where both have one name, each takes the options that it has.

    A method `as_released` has its detector as released, too, where that knows of it.

    Raises:
        BadInput: as `resolve`.
    """
    (name, module), (other, its_module) = method, detector
    own = {field.name for field in dataclasses.fields(module.Config)}
    released = [bool(getattr(each, "AS_RELEASED", {})) for each in (module, its_module)]
    given, its = split(name, other, overrides, own, released)
    return resolve(name, module, size, given), resolve(other, its_module, size, its)


def split(method: str, detector: str, overrides: Mapping, own: Iterable[str], released: Sequence[bool]) -> tuple:
    """The options set of a method, which has `own`, and of a detector. `released`: which of them know `as_released`."""
    given, its = overrides.get(method, {}), overrides.get(detector, {})
    if method == detector:
        own = {*own, AS_RELEASED} if released[0] else {*own}
        its = {option: value for option, value in given.items() if option not in own}
        given = {option: value for option, value in given.items() if option in own}
    if given.get(AS_RELEASED) and released[1]:
        its = {AS_RELEASED: True} | its
    return given, its


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
