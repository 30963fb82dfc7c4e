"""`bench submit`: scores that somebody else's system gave, checked, scored here, and entered as an external cell."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench import results
from bench.data import load_known
from bench.exchange.rescore import tabulate
from bench.exchange.submission import form as forms
from bench.exchange.submission import layout
from bench.exchange.submission.form import Form
from bench.exchange.submission.reading import SCORES
from bench.metrics.scoring import Truth
from bench.render import leaderboard
from bench.results import stored
from bench.results.archive import Archive
from bench.schema.record import Record


def submit(options) -> Iterator[str]:
    """Enter the submission that the parsed command line names; yields a line for each thing done.

    Raises:
        BadInput: for the first thing that is wrong with it.
    """
    with results.lock(options.results):
        form = forms.read_form(Path(options.folder), options)
        yield f"entered {_enter(form, options)}"
        for path in leaderboard.write_leaderboard(options.results):
            yield f"wrote {path}"


def _enter(form: Form, options) -> Path:
    stream = form.stream
    arrays, fingerprint = load_known(stream, stream.image_size, form.fingerprint, options)
    truth = Truth(arrays, len(stream.classes))
    spec = form.spec(fingerprint)
    path = results.cell_path(options.results, spec)
    with Archive(form.folder / SCORES, layout.limit(stream, truth, arrays)) as archive:
        layout.check_layout(archive, stream, truth, arrays)
        values = {name: archive.read(name) for name in archive.entries if name != "run"}
    layout.check_values(form.folder / SCORES, values)
    own = {"run": np.array(stored.run_of(spec), np.uint64)}
    stored.write_stored(stored.scores_path(path), (own | values).items())
    held = stored.read_stored(stored.scores_path(path))
    results.rewrite(path, _cell(form, spec, tabulate(held, stream, truth).record(), held))
    return path


def _cell(form: Form, spec: dict, record: dict, held: stored.StoredScores) -> Record:
    cell = results.blank(spec, form.capabilities, "ok", "")
    told = {"device": form.cost["device"]} if "device" in form.cost else {}
    missing = [np.nan] * len(form.stream.steps)
    cost = cell["cost"] | dict.fromkeys(("train_s", "carried_bytes"), missing)
    cost |= {key: value for key, value in form.cost.items() if key != "device"}
    size = held.path.stat().st_size
    about = {
        "environment": told,
        "stored": {"maps": bool(held.scales), "bytes": size, "sha256": stored.checksum(held.path)},
    }
    about |= {"tuned_on": list(form.tuned_on)} if form.tuned_on else {}
    return cell | record | {"cost": cost} | about
