"""What the YAML file of a stream must hold, and what is wrong with one."""

REQUIRED = ("version", "reader", "image_size", "source", "steps")
ALLOWED = (*REQUIRED, "options", "holdout")


def problem_of(content: dict) -> str | None:
    """What is wrong with a manifest, worded to follow its file name; None if nothing is."""
    absent = [key for key in REQUIRED if key not in content]
    if absent:
        return f"lacks {', '.join(absent)}: add {'it' if len(absent) == 1 else 'them'}"
    unknown = [key for key in content if key not in ALLOWED]
    if unknown:
        return f"has the unknown key {unknown[0]!r}: the keys are {', '.join(ALLOWED)}"
    for key in ("version", "image_size"):
        if type(content[key]) is not int or content[key] < 1:
            return f"has {key} {content[key]!r}: it must be a whole number above 0"
    for key in ("reader", "source"):
        if not isinstance(content[key], str) or not content[key].strip():
            return f"has {key} {content[key]!r}: it must be text"
    share = content.get("holdout", 0)
    if type(share) not in (int, float) or not 0 <= share < 1:
        return f"has holdout {share!r}: it must be a share of the training images, 0 to below 1"
    if not isinstance(content.get("options") or {}, dict):
        return f"has options {content['options']!r}: they must be `key: value` lines"
    return _steps_problem(content["steps"], content["reader"].split("+"))


def _steps_problem(steps: object, readers: list[str]) -> str | None:
    if not isinstance(steps, list) or not steps:
        return "has no steps: give a list of lists of class names"
    seen = set()
    for number, step in enumerate(steps, start=1):
        if not isinstance(step, list) or not step:
            return f"has nothing in step {number}: give every step at least one class, as a list"
        for name in step:
            problem = _class_problem(name, readers)
            if problem:
                return f"has the class {name!r} in step {number}: {problem}"
            if name in seen:
                return f"has the class {name!r} twice: every class arrives in one step only"
            seen.add(name)
    return None


def _class_problem(name: object, readers: list[str]) -> str | None:
    if not isinstance(name, str) or not name:
        return "class names are text, put it in quotes"
    prefix, colon, rest = name.rpartition(":")
    if len(readers) > 1 and prefix not in readers:
        return f"with reader {'+'.join(readers)} write it as {readers[0]}:CLASS"
    if len(readers) == 1 and colon:
        return "a ':' belongs only to streams over several data sets"
    if not rest or rest.startswith(".") or "/" in rest or "\\" in rest:
        return "a class is the plain name of a folder"
    return None
