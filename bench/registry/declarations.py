"""What a plugin file may declare at its top level, and what is wrong with a declaration: read with `ast`, never run."""

import ast
import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from bench.errors import BadInput

# The names that a file of each kind may declare, as literals, with their defaults.
DECLARATIONS = {
    "method": {
        "DEFAULT_DETECTOR": "reverse_distillation",
        "REQUIRES": None,
        "CAPABILITIES": (),
        "TUNED_ON": {},
        "AS_RELEASED": {},
    },
    "detector": {"TRAITS": (), "BACKBONE": None, "TUNED_ON": {}, "AS_RELEASED": {}},
    "scenario": {"NEEDS": "nothing"},
}
# What a method may declare beyond the rules.
CAPABILITIES = ("reads_ahead", "task_oracle", "labels", "unlimited_memory")
# What the project's methods ask of a detector; a plugin may invent others, but none that looks like one of these.
TRAITS = [
    "bfloat16",
    "centroid",
    "conditioned_diffusion",
    "feature_transformer",
    "gaussian",
    "gradient",
    "image_level",
    "keyed_bank",
    "latent",
    "masked_condition",
    "memory_bank",
    "normal_embedding",
    "position_bank",
    "sampling",
    "task_adapters",
]
# The callbacks of Avalanche's strategy, in the order of a step; what is called otherwise is never called.
HOOKS = [
    "before_training",
    "before_training_exp",
    "before_train_dataset_adaptation",
    "after_train_dataset_adaptation",
    "before_training_epoch",
    "before_training_iteration",
    "before_forward",
    "after_forward",
    "before_backward",
    "after_backward",
    "before_update",
    "after_update",
    "after_training_iteration",
    "after_training_epoch",
    "after_training_exp",
    "after_training",
    "before_eval",
    "before_eval_dataset_adaptation",
    "after_eval_dataset_adaptation",
    "before_eval_exp",
    "before_eval_iteration",
    "before_eval_forward",
    "after_eval_forward",
    "after_eval_iteration",
    "after_eval_exp",
    "after_eval",
]
ALIKE = 0.8  # of difflib: how near a name must be to a known one to be taken for a slip of the pen


def declarations(kind: str, file: Path, tree: ast.Module) -> dict:
    """Return the declarations of a file by name, defaults included.

    Raises:
        BadInput: for the first one that is misspelt, of another type, or outside the vocabulary, with file and line;
            so for callbacks that are never called, and a state that is saved but not loaded.
    """
    found = dict(DECLARATIONS[kind])
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and target.id.isupper():
            name, where = target.id, f"{file}:{node.lineno}"
            if name in found:
                found[name] = _checked(kind, name, node.value, where)
            elif other := next((other for other, names in DECLARATIONS.items() if name in names), None):
                raise BadInput(f"{where}: {name} is declared by a {other}, not by a {kind}: remove the line.")
            elif hint := did_you_mean(name, DECLARATIONS[kind]):
                known = ", ".join(DECLARATIONS[kind])
                raise BadInput(f"{where}: {name} is not read by anybody.{hint} A {kind} may declare {known}.")
    for part in ast.walk(tree):
        if isinstance(part, ast.ClassDef) and kind == "method":
            _check_plugin(part, file)
        if isinstance(part, ast.Call) and kind == "detector" and not found["BACKBONE"]:
            asked = ast.unparse(part.func)
            if asked in ("setup.features", "setup.tokens", "setup.embedder"):
                raise BadInput(
                    f"{file}:{part.lineno}: {asked} asks for a backbone and the file declares none: write "
                    "BACKBONE = 'wide_resnet50_2.tv_in1k', or another name of timm, at its top."
                )
    return found


def _checked(kind: str, name: str, node: ast.expr | None, where: str):
    """The value of a declaration."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        raise BadInput(
            f"{where}: {name} is read without running the file: give a literal, not an expression."
        ) from None
    if isinstance(DECLARATIONS[kind][name], tuple):
        if not isinstance(value, tuple | list) or not all(isinstance(each, str) for each in value):
            names = tuple(re.findall(r"\w+", value)) if isinstance(value, str) else ("name",)
            raise BadInput(f"{where}: {name} = {value!r} is no tuple of names: write {name} = {names!r}.")
        _check_vocabulary(name, value, where)
        return tuple(value)
    if name == "AS_RELEASED":
        if not isinstance(value, dict) or not all(isinstance(option, str) for option in value):
            raise BadInput(f"{where}: {name} = {value!r} does not map options to values, as in {{'lr': 0.1}}.")
        return value
    if isinstance(DECLARATIONS[kind][name], dict):
        if not isinstance(value, dict) or not all(isinstance(text, str) for pair in value.items() for text in pair):
            raise BadInput(f"{where}: {name} = {value!r} does not map options to sentences, as in {{'lr': 'VisA'}}.")
        return value
    if not isinstance(value, str) and not (value is None and DECLARATIONS[kind][name] is None):
        raise BadInput(f"{where}: {name} = {value!r} is not text in quotation marks.")
    if name == "REQUIRES" and value is not None:
        _check_vocabulary("TRAITS", (value,), where)
    return value


def _check_vocabulary(name: str, values: Iterable[str], where: str) -> None:
    if name == "CAPABILITIES":
        for value in values:
            if value not in CAPABILITIES:
                hint = did_you_mean(value, CAPABILITIES, 0.4)
                raise BadInput(f"{where}: no capability {value!r}.{hint} There are {', '.join(CAPABILITIES)}.")
    for value in values if name == "TRAITS" else ():
        if value not in TRAITS and did_you_mean(value, TRAITS):
            raise BadInput(f"{where}: no trait {value!r}.{did_you_mean(value, TRAITS)} Known: {', '.join(TRAITS)}.")


def _check_plugin(part: ast.ClassDef, file: Path) -> None:
    """The callbacks and the state of a class that stands directly on `Plugin`."""
    if not any(ast.unparse(each).rpartition(".")[2] == "Plugin" for each in part.bases):
        return
    methods = {node.name: node.lineno for node in part.body if isinstance(node, ast.FunctionDef)}
    for name, line in methods.items():
        if name.startswith(("before_", "after_")) and name not in HOOKS:
            raise BadInput(f"{file}:{line}: Avalanche never calls {name}.{did_you_mean(name, HOOKS, 0.4)}")
    for one, other in (("state_dict", "load_state_dict"), ("load_state_dict", "state_dict")):
        if one in methods and other not in methods:
            raise BadInput(f"{file}:{methods[one]}: {part.name} has {one} but no {other}: a state is saved and loaded.")


def did_you_mean(name: str, known: Iterable[str], cutoff: float = ALIKE) -> str:
    """A question that names the known one which `name` may have been meant for; "" if none is as near as `cutoff`."""
    near = difflib.get_close_matches(name, [each for each in known if each != name], n=1, cutoff=cutoff)
    return f" Did you mean {near[0]!r}?" if near else ""


KINDS = {"Strategy": "method", "Detector": "detector"}  # of what `build` is annotated to return


def kind_of(tree: ast.Module, path: Path) -> str:
    """A file with `samples` is a scenario reader; otherwise the return annotation of `build` tells."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if "samples" in functions:
        return "scenario"
    if "build" not in functions:
        raise BadInput(
            f"{path} is no plugin: it needs `build(...) -> Strategy`, `build(...) -> Detector` or `samples(...)`."
        )
    returns = functions["build"].returns
    told = returns.value if isinstance(returns, ast.Constant) else returns and ast.unparse(returns)
    kind = KINDS.get(str(told).rpartition(".")[2])
    if kind is None:
        says = f"it is annotated to return {told}" if told else "it does not say what it returns"
        raise BadInput(
            f"{path}:{functions['build'].lineno}: is `build` a method's or a detector's? Here {says}: write "
            "`-> Strategy` for a method, `-> Detector` for a detector."
        )
    return kind
