"""Protocols: what a row of a table must have been run with, read from versioned YAML files; also those of papers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen

from bench.errors import BadInput
from bench.registry import unknown
from bench.schema.spec import Name, Natural, Positive, adapter, first_fault

Options = dict[str, Any]  # of a method or detector, as --set gives them
SUBSETS = ("scenarios", "detectors", "seeds", "orders")  # of which a run may take some


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The options of `bench run` that make rows comparable; None: what the stream or the detector has.

    Of a `paper`, they are that paper's, and `differs` says what of it is otherwise here.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - a name that pydantic reads

    name: Name = ""
    version: Positive
    about: Name
    scenarios: Annotated[tuple[Name, ...], MinLen(1)]
    methods: Annotated[dict[Name, Options], MinLen(1)]  # of the headline, with their options
    detectors: dict[Name, Options]  # empty: each method's own
    seeds: Annotated[tuple[Natural, ...], MinLen(1)]
    orders: Annotated[tuple[Name, ...], MinLen(1)] = ("published",)
    image_size: Positive | None = None  # px
    size: Name | None = None  # tiny or paper
    backbone: Name | None = None
    weights: str = ""  # which ones the user has to give, in words; "": those that the backbone comes with
    weights_sha256: str = ""  # of the file that the tables' rows had
    holdout: float | None = None
    eval_every: Natural | None = None
    budget_mb: float | None = None  # that a method may carry from one step to the next
    paper: str = ""  # authors, title, where; "": not a paper's
    differs: tuple[str, ...] = field(default=())

    def request(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a `Request`, from those that the user gave.

        Methods and their options are free; of scenarios, detectors, seeds and orders some may be chosen. Raises
        BadInput for what the protocol fixes.
        """
        fixed = ("image_size", "size", "backbone", "holdout", "eval_every", "eval_ahead", "precision", "auto_batch")
        for name in fixed:
            if given.get(name) is not None:
                raise BadInput(
                    f"--{name.replace('_', '-')} is fixed by protocol {self.name}: leave one of the two out."
                )
        asked = {name: tuple(getattr(self, name)) for name in SUBSETS}
        for name in SUBSETS:
            for value in given.get(name, ()):
                if value not in asked[name]:
                    there = ", ".join(map(str, asked[name])) or "each method's own detector"
                    raise BadInput(f"{value} is none of the {name} of protocol {self.name}: {there}.")
        asked |= {name: getattr(self, name) for name in fixed[:5] if getattr(self, name) is not None}
        asked |= {"methods": tuple(self.methods), **given}
        chosen = {name: self.methods[name] for name in asked["methods"] if name in self.methods}
        chosen |= self.methods if "all" in asked["methods"] else {}
        overrides = {name: dict(options) for name, options in chosen.items() if options}
        for owner, options in given.get("overrides", {}).items():
            if owner in self.detectors:
                raise BadInput(f"--set {owner}... is fixed by protocol {self.name}: leave one of the two out.")
            overrides[owner] = overrides.get(owner, {}) | options
        for name in asked["detectors"]:
            if self.detectors[name]:  # a method may have the detector's name
                overrides[name] = self.detectors[name] | overrides.get(name, {})
        return asked | {"overrides": overrides}


def load_protocol(name: str) -> Protocol:
    """Read a protocol by name, or the YAML file of one's own; raises BadInput where it does not hold together."""
    import yaml
    from pydantic import ValidationError

    files = _files()
    own = name.endswith((".yaml", ".yml"))
    if not own and name not in files:
        raise BadInput(unknown("protocol", name, files))
    path = Path(name) if own else files[name]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise BadInput(f"{path} is no protocol: it holds no keys.")
        return adapter(Protocol).validate_json(json.dumps(content | {"name": path.stem}), strict=True)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}): give the path of a protocol.") from error
    except (yaml.YAMLError, TypeError) as error:
        raise BadInput(f"{path} is no protocol: {error}.") from error
    except ValidationError as error:
        raise BadInput(f"{path} is no protocol: {first_fault(error)}.") from error


@cache
def shipped_protocols() -> tuple[Protocol, ...]:
    """Every protocol that comes with the project, by name."""
    return tuple(map(load_protocol, sorted(_files())))


def _files() -> dict[str, Path]:
    folder = Path(str(resources.files("scenarios") / "protocols"))
    return {path.stem: path for path in folder.glob("*.yaml")}
