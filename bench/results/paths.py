"""Where a cell's files lie."""

import hashlib
import re
from pathlib import Path

from bench.schema.cell import Spec


def path_of(root: Path, spec: Spec) -> Path:
    """`root/<data set>/<stream>/<method>+<detector>[,option=value...]/seed-<k>.json`; another order is an option.

    So is the author of an external one: it never lies where a cell of ours does.
    """
    options = [spec["variant"]] if spec["variant"] else []
    if spec["order"] != "published":
        options.append(f"order={spec['order']}")
    if "external" in spec:
        options.append(f"external={spec['external']['author']}")
    folder = ",".join([f"{spec['method']}+{spec['detector']}", *options])
    folder = re.sub(r"[^\w.,=+-]", "-", folder)
    if len(folder) > 200:  # file systems stop at 255
        folder = f"{folder[:183]}-{hashlib.sha256(folder.encode()).hexdigest()[:16]}"
    return Path(root, spec["scenario"], folder, f"seed-{spec['seed']}.json")


def kept(path: Path, step: int) -> Path:
    """Where `--keep` leaves the weights and the memory after `step` (0-based) of the cell file `path`."""
    return path.with_suffix(f".step-{step}.ckpt")
