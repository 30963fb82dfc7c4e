"""How far a run is: on a terminal a live line per running cell above the table so far, in a log a line per event."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from bench import results
from bench.analysis.groups import sections
from bench.analysis.labels import last_line
from bench.render import outcome
from bench.schema.record import Record


class Watch:
    """Hears the events of all cells and shows them; counts how they ended, and reckons how long the rest takes.

    `seconds`: how long each cell may take, by name; only their ratios count. `root`: where their records come to lie.
    `finished`: records that belong in the table, too. The table stays on the screen where something stops the run.
    """

    def __init__(
        self, seconds: Mapping[str, float], root: Path, finished: Sequence[Record] = (), console: Console | None = None
    ):
        self.console = console or Console(highlight=False)
        self.live = self.console.is_terminal
        self.root, self.seconds, self.start = root, seconds, time.perf_counter()
        self.ended: dict[str, list] = {}
        self.records = list(finished)
        self.tables: list[Table] = outcome.tables(self.records) if self.live else []
        self.done, self.before = dict.fromkeys(seconds, 0.0), dict.fromkeys(seconds, 0.0)  # shares; of an earlier run
        self.bars: dict[str, TaskID] = {}
        self.steps: dict[str, int] = {}
        self.progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=16),
            TextColumn("{task.fields[note]}", markup=False), console=self.console,
        )  # fmt: skip
        self.all = self.progress.add_task("all cells", total=sum(seconds.values()), note="")
        self.screen = Live(  # of what does not fit the screen, the end is cut
            console=self.console, transient=True, get_renderable=lambda: Group(self.progress, *self.tables)
        )

    def __enter__(self):
        if self.live:
            self.screen.start()
        return self

    def __exit__(self, stopped, *_):
        self.screen.stop()
        if stopped:
            self.console.print(*self.tables)

    def __call__(self, cell, event: dict) -> None:
        if "start" in event:
            self._begin(cell, event)
        elif "epoch" in event:
            steps = self.steps[cell.name] + event["epoch"] / event["epochs"]
            self._advance(cell, steps, f"epoch {event['epoch']}/{event['epochs']}")
        elif "note" in event:
            self._line(f"{cell.name}: {event['note']}")
        elif "step" in event:
            self._step(cell, event)
        else:
            self._end(cell, event)
        self.progress.update(self.all, completed=self._spent(self.done), note=self.left())

    def left(self) -> str:
        """About how long the rest takes at the pace so far; "" before the first cell ends and after the last."""
        done = self._spent(self.done)
        here, rest = done - self._spent(self.before), sum(self.seconds.values()) - done
        if not self.ended or here <= 0 or rest <= 0:
            return ""
        return f"about {duration(rest / here * (time.perf_counter() - self.start))} left"

    def _spent(self, shares: Mapping[str, float]) -> float:
        return sum(self.seconds[name] * share for name, share in shares.items())

    def _begin(self, cell, event: dict) -> None:
        self.steps[cell.name] = event["start"]
        total = event["steps"]
        if cell.name in self.bars:
            self.progress.remove_task(self.bars.pop(cell.name))
            self._line(f"{cell.name}: was lost with its machine, starts again")
        self.bars[cell.name] = self.progress.add_task(cell.name, total=total, completed=event["start"], note="")
        self.done[cell.name] = self.before[cell.name] = event["start"] / total
        if event["start"]:
            self._line(f"{cell.name}: goes on at step {event['start'] + 1} of {total}")

    def _step(self, cell, event: dict) -> None:
        self.steps[cell.name] = event["step"]
        said = f"AUROC {event['image_auroc']:.3f}"
        if not cell.evaluated_after(event["step"] - 1):
            said += " of what was just learned"
        self._advance(cell, event["step"], said)
        if not self.live:
            self._line(f"{cell.name}: step {event['step']}/{len(cell.stream.steps)}, image {said}")

    def _advance(self, cell, steps: float, note: str) -> None:
        self.done[cell.name] = steps / len(cell.stream.steps)
        self.progress.update(self.bars[cell.name], completed=steps, note=note)

    def _end(self, cell, event: dict) -> None:
        if event["done"] == "ok" and not results.cell_path(self.root, cell.spec).is_file():
            event = {"done": "died", "reason": "it says that it is done, and left no record"}
        self.ended.setdefault(event["done"], []).append((cell, event.get("reason", "")))
        self.done[cell.name] = 1.0
        if cell.name in self.bars:
            self.progress.remove_task(self.bars.pop(cell.name))
        if event["done"] == "ok":
            self._line(f"{cell.name}: done in {duration(event['seconds'])}{self._numbers(cell)}")
        else:
            self._line(f"{cell.name}: {event['done'].upper()}: {last_line(event['reason'])}")

    def _numbers(self, cell) -> str:
        """What has come of a cell, and in a log what is still to come: a terminal shows both anyway."""
        self.records.append(results.read(results.cell_path(self.root, cell.spec)))
        if self.live:
            self.tables = outcome.tables(self.records)
            return ""
        (section,) = sections(self.records[-1:])
        told = [f"{name} {number}" for name, number in zip(outcome.NUMBERS, outcome.line(section.rows[0]), strict=True)]
        return "; ".join(["", ", ".join(told), *filter(None, [self.left()])])

    def _line(self, text: str) -> None:
        text = f"[{time.perf_counter() - self.start:6.1f} s] {text}"
        self.console.print(text, markup=False, soft_wrap=not self.live)


def duration(seconds: float) -> str:
    """As one says it: `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
