"""Plans a finished cell again from its spec, so that it can be run once more or gone on from."""

from dataclasses import replace
from pathlib import Path

from bench.errors import BadInput
from bench.runner.plan import plan_cells
from bench.schema.cell_json import plain
from bench.schema.request import Cell, Request
from bench.schema.spec import Spec


def again(path: Path, spec: Spec, options) -> Cell:
    """The cell of the file `path`, as `plan` gives it now; `options` say what a file does not hold.

    They are `data`, `scenario`, `plugin`, `weights`, `cache` and `device` of the command line.

    Raises:
        BadInput: if its data, weights or scenario are not given, or are not those that it was run with.
    """
    weights, own, its = options.weights or spec["weights"]["kind"], spec["method_config"], spec["detector_config"]
    if weights == "path":
        raise BadInput(f"the cell was run with the weights {spec['weights']['source']}: give that file with --weights.")
    overrides = {spec["method"]: own, spec["detector"]: its}
    if spec["method"] == spec["detector"]:
        overrides = {spec["method"]: its | own}
    # A mean or deviation per channel is timm's own, which comes back by itself.
    given = {name: value for name, value in spec["backbone_arguments"].items() if not isinstance(value, list)}
    arguments = ",".join(f"{name}={value}" for name, value in given.items())
    request = Request(
        methods=(spec["method"],),
        detectors=(spec["detector"],),
        scenarios=(options.scenario or spec["scenario"],),
        seeds=(spec["seed"],),
        orders=(spec["order"],),
        size=spec["size"],
        data=options.data and Path(options.data),
        backbone=spec["backbone"] and f"{spec['backbone']}:{arguments}",
        weights=weights if spec["backbone"] else None,
        image_size=spec["image_size"],
        device=options.device,
        overrides=overrides,
        plugins=tuple(options.plugin),
        cache=options.cache,
        eval_every=spec.get("eval_every", 1),
        eval_ahead=spec.get("eval_ahead", False),
        holdout=spec.get("holdout", 0),
        precision=spec.get("precision", "float32"),
        auto_batch=spec.get("auto_batch", False),
    )
    planned = plan_cells(request)[0]
    now = plain(planned.spec)
    if odd := [key for key in (spec | now) if key != "variant" and spec.get(key) != now.get(key)]:
        raise BadInput(
            f"{path} was run with another {odd[0]} ({spec.get(odd[0])!r}, here {now.get(odd[0])!r}): "
            "give the --data, --weights and --plugin of that run, or run it again."
        )
    return replace(planned, spec=spec)
