"""`bench run`: plan, drop what is finished, run the rest, regenerate the leaderboard."""

from pathlib import Path

from bench import backends, results
from bench.backends import pool
from bench.errors import BadInput
from bench.render import leaderboard
from bench.results import stored
from bench.schema import config


def run(options) -> int:
    """Run what the parsed command line asks for; returns the exit code."""
    backend = backends.find(options)
    with results.lock(options.results):
        context = pool.server()
        cells = pool.call(context, _plan, options)
        todo = [cell for cell in cells if not cell.skip and _wanted(cell, options)]
        if options.plan:
            print(_plan_text(cells, todo))
            return 0
        if options.dry_run:
            print(backend.script(len(todo), options) if todo else "nothing to submit: all cells are finished.")
            return 0
        for cell in cells:
            if cell.skip:
                results.write(options.results, results.blank(cell.spec, cell.capabilities, "skipped", cell.skip))
        failed = _run(backend, todo, options)
        if options.audit:
            failed += _audit(context, cells, options)
        print(_summary(cells, todo, failed))
        if options.save_maps:
            print(_sizes(todo, options.results))
        for reason in dict.fromkeys(cell.skip for cell in cells if cell.skip):
            print(f"skipped: {reason}")
        for path in leaderboard.write(options.results):
            print(f"wrote {path}")
    return 1 if failed else 0


def _plan(options) -> list:
    from bench.runner.plan import plan
    from bench.schema.request import Request

    return plan(
        Request(
            methods=options.methods,
            detectors=options.detectors,
            scenarios=options.scenario,
            seeds=options.seeds,
            order=options.order,
            size=options.size,
            data=options.data and Path(options.data),
            backbone=options.backbone,
            weights=options.weights,
            image_size=options.image_size,
            device=backends.device(options) or _device(options.device, options.audit),
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
        )
    )


def _device(name: str, audit: bool) -> str:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"--device {name}: PyTorch sees no CUDA device here; use --device cpu.")
    if name != "cpu" and not name.startswith("cuda"):
        raise BadInput(f"--device {name!r} is none of auto, cpu, cuda.")
    if audit and name != "cpu":
        raise BadInput("--audit compares scores to the last bit, and two runs on a GPU differ there: add --device cpu.")
    return name


def _wanted(cell, options) -> bool:
    path = results.path_of(options.results, cell.spec)
    if options.redo == "all" or not path.exists():
        return options.redo != "failed" or path.exists()
    try:
        old = results.read(path)
    except BadInput:
        if options.redo == "missing":
            raise
        return True
    if old["status"] == "failed":
        return options.redo == "failed"
    unkept = options.keep and not results.kept(path, len(cell.stream.steps) - 1).exists()
    unsaved = options.save_maps and not _saved(old, cell, path)
    unsaved |= options.audit and not stored.path_of(path).is_file()
    return options.redo == "missing" and (old["key"] != cell.key or old["status"] == "partial" or unkept or unsaved)


def _saved(old, cell, path: Path) -> bool:
    """Whether the maps of a finished cell lie beside it."""
    return old.get("stored", {}).get("maps", False) and stored.path_of(path).is_file()


def _run(backend, todo: list, options) -> list:
    from bench.runner.progress import Watch

    if not todo:
        return []
    for cell in todo:
        if options.redo == "all":
            results.path_of(options.results, cell.spec).with_suffix(".ckpt").unlink(missing_ok=True)
    with Watch(len(todo)) as watch:
        backend.run(todo, options, watch)
    for cell, reason in watch.ended.get("died", ()):
        results.write(options.results, results.blank(cell.spec, cell.capabilities, "failed", reason))
    if watch.ended.get("bad input"):
        raise BadInput(watch.ended["bad input"][0][1])
    return [cell for how in ("failed", "died") for cell, _ in watch.ended.get(how, ())]


def _audit(context, cells: list, options) -> list:
    """Audit the finished cells that no audit has passed yet; returns those that failed."""
    from bench.audit import audit

    failed = []
    for cell in cells:
        if not cell.skip and _auditable(results.path_of(options.results, cell.spec), cell.key):
            passed = audit(context, cell, options.results, options.threads)
            print(f"{cell.name}: audit {'passed' if passed else 'FAILED'}")
            failed += [] if passed else [cell]
    return failed


def _auditable(path: Path, key: str) -> bool:
    """Whether a cell is finished, has its scores beside it, and has passed no audit yet."""
    if not (path.is_file() and stored.path_of(path).is_file()):
        return False
    old = results.read(path)
    return old["status"] == "ok" and old["key"] == key and not old.get("audited")


def _sizes(todo: list, root: Path) -> str:
    files = [stored.path_of(results.path_of(root, cell.spec)) for cell in todo]
    sizes = [file.stat().st_size for file in files if file.is_file()]
    return f"scores and maps of {len(sizes)} cells: {sum(sizes):,} bytes, beside their files in {root}."


def _plan_text(cells: list, todo: list) -> str:
    lines = []
    for cell in cells:
        fate = f"skip: {cell.skip}" if cell.skip else ("run" if cell in todo else "finished")
        lines.append(f"{cell.name}: {fate}")
    return "\n".join([*lines, f"{len(todo)} of {len(cells)} cells would run."])


def _summary(cells: list, todo: list, failed: list) -> str:
    skipped = sum(bool(cell.skip) for cell in cells)
    finished = len(cells) - skipped - len(todo)
    ran = len(todo) - len(failed)
    return f"{ran} cells ran, {len(failed)} failed, {finished} were finished before, {skipped} pairs skipped."
