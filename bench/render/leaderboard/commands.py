"""The commands that run the rows of a table again, from their specs alone."""

import json
import re
import shlex
from collections.abc import Sequence

from bench.analysis.rows import Row
from bench.schema.record import Record

FLAG = {"image_size": "--image-size", "holdout": "--holdout", "precision": "--precision", "size": "--size"}
NAME = re.compile(r"(?:^|,)([A-Za-z_][\w.]*)(?==|,|$)")  # of a changed option, as `Spec.variant` lists them


def commands(rows: Sequence[Row]) -> list[str]:
    """One command for all rows of the same detector settings, order and seeds, as far as each method is in it once.

    DIR and WEIGHTS stand for the folder of the data and a file of weights; scores from elsewhere have no command.
    """
    groups: list[tuple[tuple, list[str], list[str]]] = []  # what they share, methods, options of methods
    for row in rows:
        if row.external:
            continue
        shared, own = _options(row.cells[0])
        shared = (*shared, f"--seeds {','.join(str(cell['spec']['seed']) for cell in row.cells)}")
        method = row.spec["method"]
        group = next((g for g in groups if g[0] == shared and method not in g[1]), None)
        if group is None:
            groups.append(group := (shared, [], []))
        group[1].append(method)
        group[2].extend(own)
    found = (
        " ".join([f"python -m bench run --methods {','.join(methods)}", *own, *shared])
        for shared, methods, own in groups
    )
    # What strangers named may hold anything: it must stay one line and not end the block of code on the page.
    return [" ".join(command.split()).replace("`", "'") for command in found]


def _options(cell: Record) -> tuple[tuple[str, ...], list[str]]:
    """(what the rows of one command must share, options of the method)."""
    spec, own = cell["spec"], []
    scenario = spec["scenario"]
    scenario = f"{scenario.removeprefix('custom/')}.yaml" if scenario.startswith("custom/") else scenario
    shared = [f"--detectors {spec['detector']} --scenario {shlex.quote(scenario)}"]
    shared += [] if scenario.startswith("synthetic/") else ["--data DIR"]
    shared += [f"--order {spec['order']}"] if spec["order"] != "published" else []
    shared += [f"--plugin {kind.upper()}.py" for kind in spec.get("plugin_code", ())]
    for name in dict.fromkeys(NAME.findall(spec["variant"])):
        owner, dot, option = name.partition(".")
        if dot:
            of_method = owner == spec["method"] and option in spec["method_config"]
            config = "method_config" if of_method else "detector_config"
            value = spec[config].get(option)
            text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            (own if of_method else shared).append(f"--set {shlex.quote(f'{name}={text}')}")
        elif name in FLAG:
            shared.append(f"{FLAG[name]} {spec.get(name) or 0}")
        elif name == "eval":
            shared.append(f"--eval-every {spec['eval_every']}" if spec["eval_every"] else "--eval-final")
        elif name in ("eval_ahead", "auto_batch", "no_wall"):
            shared.append(f"--{name.replace('_', '-')}")
        elif name == "backbone":
            arguments = ",".join(f"{key}={value}" for key, value in spec["backbone_arguments"].items())
            shared.append(f"--backbone {spec['backbone']}{':' if arguments else ''}{arguments}")
        elif name == "weights":
            kind = spec["weights"]["kind"]
            shared.append(f"--weights {'WEIGHTS' if kind == 'path' else kind}")
    return tuple(shared), own
