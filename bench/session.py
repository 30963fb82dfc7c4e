"""`bench run`: plan, drop what is finished, run the rest, regenerate the leaderboard."""

from pathlib import Path

from rich.console import Console

from bench import backends, results
from bench.analysis import durations
from bench.backends import pool
from bench.errors import BadInput
from bench.render import leaderboard, outcome
from bench.render.progress import Watch
from bench.results import stored
from bench.schema import config
from bench.schema.record import Record, kept_from


def run(options) -> int:
    """Run what the parsed command line asks for; returns the exit code."""
    backend = backends.find(options)
    with results.lock(options.results):
        context = pool.server()
        cells = pool.call(context, _plan, options)
        wanted = [cell for cell in cells if not cell.skip and _wanted(cell, options)]
        todo, seconds = _cheap_first(wanted, options.results)
        if options.plan:
            print(_plan_text(cells, todo, options.results))
            return 0
        if options.dry_run:
            print(backend.script(len(todo), options) if todo else "nothing to submit: all cells are finished.")
            return 0
        for cell in cells:
            if cell.skip:
                results.write(options.results, results.blank(cell.spec, cell.capabilities, "skipped", cell.skip))
        failed = _run(backend, todo, seconds, options)
        standing = [_standing(cell, options.results) for cell in cells if not cell.skip and cell not in todo]
        print(_summary(cells, todo, failed, standing))
        if options.save_maps:
            print(_sizes(todo, options.results))
        for reason in dict.fromkeys(cell.skip for cell in cells if cell.skip):
            print(f"skipped: {reason}")
        for path in leaderboard.write(options.results):
            print(f"wrote {path}")
        _show([cell for cell in cells if not cell.skip], options.results)
    return 1 if failed or any(text.startswith("failed") for text in standing) else 0


def _plan(options) -> list:
    from bench.runner.plan import plan
    from bench.schema.request import Request

    return plan(
        Request(
            methods=options.methods,
            detectors=options.detectors,
            scenarios=options.scenario,
            seeds=options.seeds,
            orders=options.order,
            size=options.size,
            data=options.data and Path(options.data),
            backbone=options.backbone,
            weights=options.weights,
            image_size=options.image_size,
            device=backends.device(options) or _device(options.device),
            overrides=config.parse(options.set),
            plugins=tuple(options.plugin),
            cache=options.cache,
            keep=options.keep,
            save_maps=options.save_maps,
            feature_cache=options.feature_cache,
            eval_every=options.eval_every,
            eval_ahead=options.eval_ahead,
            holdout=options.holdout,
            precision=options.precision,
            auto_batch=options.auto_batch,
            no_wall=options.no_wall,
        )
    )


def _device(name: str) -> str:
    from bench.training import device

    name = device.found(name)
    return name


def older_code(record, cell) -> bool:
    """Whether a record was made by other source than a run would use now, or does not tell."""
    return record.get("code") != cell.code


def _standing(cell, root: Path) -> str:
    """How a cell stands that will not be run."""
    path = results.path_of(root, cell.spec)
    if not path.is_file():
        return "not run before"
    record = results.read(path)
    if record["status"] == "failed":
        return "failed before (--redo failed)"
    if other := Record.differences(path, cell.spec):
        return f"finished, with another {' and '.join(other)} (--redo changed)"
    return "finished, with older code (--redo changed)" if older_code(record, cell) else "finished"


def _wanted(cell, options) -> bool:
    path = results.path_of(options.results, cell.spec)
    if options.redo == "all" or not path.exists():
        return options.redo not in ("failed", "changed") or path.exists()
    try:
        old = results.read(path)
    except BadInput:
        if options.redo == "missing":
            raise
        return True
    if options.redo == "changed":
        return old["key"] != cell.key or older_code(old, cell)
    if old["status"] == "failed":
        return options.redo == "failed"
    if other := Record.differences(path, cell.spec):
        if options.redo == "missing" and "fingerprint" in other and "scenario_version" not in other:
            raise BadInput(kept_from(path, other))  # the user's data: what was asked for is neither there nor run
        return False  # the project's own defaults have moved on since
    unkept = options.keep and not results.kept(path, len(cell.stream.steps) - 1).exists()
    unsaved = options.save_maps and not _saved(old, cell, path)
    return options.redo == "missing" and (old["key"] != cell.key or old["status"] == "partial" or unkept or unsaved)


def _saved(old, cell, path: Path) -> bool:
    """Whether the maps of a finished cell lie beside it."""
    return old.get("stored", {}).get("maps", False) and stored.path_of(path).is_file()


def _cheap_first(todo: list, root: Path) -> tuple[list, list[float]]:
    """The cells in the order in which they are run, so that the first rows are there soon, and their expected times."""
    seconds = durations.expected([cell.spec for cell in todo], root)
    order = sorted(range(len(todo)), key=seconds.__getitem__)
    return [todo[i] for i in order], [seconds[i] for i in order]


def _run(backend, todo: list, seconds: list[float], options) -> list:
    if not todo:
        return []
    for cell in todo:
        path = results.path_of(options.results, cell.spec)
        if options.redo == "all":
            path.with_suffix(".ckpt").unlink(missing_ok=True)
        if options.redo in ("all", "changed") and Record.differences(path, cell.spec):
            path.unlink()  # asked for: nothing else lets a finished result go
    names = [cell.name for cell in todo]
    with Watch(dict(zip(names, seconds, strict=True)), options.results) as watch:
        backend.run(todo, options, watch)
    for cell, reason in watch.ended.get("died", ()):
        results.write(options.results, results.blank(cell.spec, cell.capabilities, "failed", reason))
    if watch.ended.get("bad input"):
        raise BadInput(watch.ended["bad input"][0][1])
    return [cell for how in ("failed", "died") for cell, _ in watch.ended.get(how, ())]


def _show(cells: list, root: Path) -> None:
    """The table of what was asked for, finished before or now."""
    paths = [results.path_of(root, cell.spec) for cell in cells]
    console = Console(highlight=False)
    for table in outcome.tables(results.read(path) for path in paths if path.is_file()):
        console.print(table)


def _sizes(todo: list, root: Path) -> str:
    files = [stored.path_of(results.path_of(root, cell.spec)) for cell in todo]
    sizes = [file.stat().st_size for file in files if file.is_file()]
    return f"scores and maps of {len(sizes)} cells: {sum(sizes):,} bytes, beside their files in {root}."


def _plan_text(cells: list, todo: list, root: Path) -> str:
    lines = []
    for cell in cells:
        fate = f"skip: {cell.skip}" if cell.skip else ("run" if cell in todo else _standing(cell, root))
        lines.append(f"{cell.name}: {fate}")
    return "\n".join([*lines, f"{len(todo)} of {len(cells)} cells would run."])


def _summary(cells: list, todo: list, failed: list, standing: list[str]) -> str:
    skipped = sum(bool(cell.skip) for cell in cells)
    finished = sum(text.startswith("finished") for text in standing)
    ran = len(todo) - len(failed)
    line = f"{ran} cells ran, {len(failed)} failed, {finished} were finished before, {skipped} pairs skipped."
    rest = [text.removeprefix("finished, ") for text in standing if text != "finished"]
    return "\n".join([line, *(f"{rest.count(text)} {text}" for text in dict.fromkeys(rest))])
