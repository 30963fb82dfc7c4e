"""How far a run is: one live line per running cell on a terminal, one plain line per finished step in a log file."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bench.analysis.labels import last_line


class Watch:
    """Hears the events of all cells and shows them; counts how they ended."""

    def __init__(self, total: int, console: Console | None = None):
        self.console = console or Console(soft_wrap=True, highlight=False)
        self.live = self.console.is_terminal
        self.start = time.perf_counter()
        self.ended: dict[str, list] = {}
        self.bars: dict[str, TaskID] = {}
        self.steps: dict[str, int] = {}
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(), console=self.console, disable=not self.live,
        )  # fmt: skip
        self.all = self.progress.add_task("all cells", total=total, note="")

    def __enter__(self):
        self.progress.start()
        return self

    def __exit__(self, *_):
        self.progress.stop()

    def __call__(self, cell, event: dict) -> None:
        if "start" in event:
            self._begin(cell, event)
        elif "epoch" in event:
            self._epoch(cell, event)
        elif "note" in event:
            self._line(f"{cell.name}: {event['note']}")
        elif "step" in event:
            self._step(cell, event)
        else:
            self._end(cell, event)

    def _begin(self, cell, event: dict) -> None:
        self.steps[cell.name] = event["start"]
        total = event["steps"]
        if cell.name in self.bars:
            self.progress.remove_task(self.bars.pop(cell.name))
            self._line(f"{cell.name}: was lost with its machine, starts again")
        self.bars[cell.name] = self.progress.add_task(cell.name, total=total, completed=event["start"], note="")
        if event["start"]:
            self._line(f"{cell.name}: goes on at step {event['start'] + 1} of {total}")

    def _epoch(self, cell, event: dict) -> None:
        done = self.steps[cell.name] + event["epoch"] / event["epochs"]
        self.progress.update(self.bars[cell.name], completed=done, note=f"epoch {event['epoch']}/{event['epochs']}")

    def _step(self, cell, event: dict) -> None:
        self.steps[cell.name] = event["step"]
        said = f"AUROC {event['image_auroc']:.3f}"
        if not cell.evaluated_after(event["step"] - 1):
            said += " of what was just learned"
        self.progress.update(self.bars[cell.name], completed=event["step"], note=said)
        if not self.live:
            self._line(f"{cell.name}: step {event['step']}/{len(cell.stream.steps)}, image {said}")

    def _end(self, cell, event: dict) -> None:
        self.ended.setdefault(event["done"], []).append((cell, event.get("reason", "")))
        if cell.name in self.bars:
            self.progress.remove_task(self.bars.pop(cell.name))
        self.progress.advance(self.all)
        if event["done"] == "ok":
            self._line(f"{cell.name}: done in {event['seconds']:.1f} s")
        else:
            self._line(f"{cell.name}: {event['done'].upper()}: {last_line(event['reason'])}")

    def _line(self, text: str) -> None:
        self.progress.console.print(f"[{time.perf_counter() - self.start:6.1f} s] {text}", markup=False)
