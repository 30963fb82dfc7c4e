"""`bench check`: what a plugin file owes, rule by rule, tried on a small stream that the bench renders itself."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import registry
from bench.errors import BadInput
from bench.registry import Entry

FIRST = 2  # rules that the others build upon: where one does not hold, the rest is not tried
Tell = Callable[[str, str], None]  # a rule, and what to do about it: "" where it holds


def entries_to_check(names: Iterable[str], plugins: Iterable[Path] = ()) -> list[tuple[Entry, tuple[Path, ...]]]:
    """The methods, detectors and readers of files or names, each with the plugin files that it may need.

    Raises:
        BadInput: for a file that is none, or a name that nothing has.
    """
    found, plugins = [], tuple(map(Path, plugins))
    for name in names:
        files = (*plugins, Path(name)) if name.endswith(".py") else plugins
        every = {kind: registry.found_entries(kind, files) for kind in registry.FOLDERS}
        if name.endswith(".py"):
            own = [each for known in every.values() for each in known.values() if each.file == Path(name).resolve()]
        else:
            own = [known[name] for known in every.values() if name in known]
        if not own:
            known = [each for kind in every.values() for each in kind]
            raise BadInput(registry.unknown("method, detector or reader", name, known))
        found += [(entry, files) for entry in own]
    return found


def check_contract(entry: Entry, plugins: tuple[Path, ...], tell: Tell) -> int:
    """Try every rule of a plugin; `tell` hears of each. Returns how many do not hold."""
    from bench.contract.rules import RULES, broken
    from bench.contract.trial import Trial, rendered_arrays

    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        tried = Trial(entry, rendered_arrays(Path(folder, "cache")), Path(folder), plugins)
        for place, rule in enumerate(RULES[entry.kind]):
            todo = broken(rule, tried)
            tell(rule.__doc__, todo)
            failed += bool(todo)
            if todo and place < FIRST:
                break
    return failed
