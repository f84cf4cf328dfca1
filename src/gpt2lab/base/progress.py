"""One progress line a stage: what, how far, speed, time left. Plain lines where output is no terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_LINE_EVERY_SECONDS = 15.0


class Bar:
    """The progress of one stage. `advance` moves it, `note` changes the words at its end."""

    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0.0
        self.words = ""
        self._skipped = self._printed = 0.0
        self._pace: float | None = None
        self._seconds_left: float | None = None
        self._start = self._last_line = time.monotonic()

    def advance(self, amount: float = 1, note: str | None = None) -> None:
        """Report `amount` more units of work done, and optionally new words."""
        self.done += amount
        if note is not None:
            self.words = note
        self._show()

    def pace(self, per_second: float, seconds_left: float | None) -> None:
        """Show this speed and time left, which the caller knows better than the mean since the start."""
        self._pace, self._seconds_left = per_second, seconds_left

    def skip(self, amount: float) -> None:
        """Report work that an earlier run did: it counts as done, but not for the speed."""
        self._skipped += amount
        self.advance(amount)

    def grow(self, total: float) -> None:
        """Change the total once it is known better."""
        self.total = total
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last_line >= PLAIN_LINE_EVERY_SECONDS:
            self._last_line = now
            self._print_line()

    def _rate(self) -> str:
        rate = self._mean_rate() if self._pace is None else self._pace
        return f"{rate:,.0f} {self.unit}/s" if rate >= 100 else f"{rate:.3g} {self.unit}/s"

    def _mean_rate(self) -> float:
        seconds = time.monotonic() - self._start
        return (self.done - self._skipped) / seconds if seconds > 0 else 0.0

    def _left(self) -> str:
        """The time left in words; empty where it is not known, and at the end."""
        if not self.total or self.done >= self.total:
            return ""
        seconds = self._seconds_left
        if self._pace is None and (rate := self._mean_rate()) > 0:
            seconds = (self.total - self.done) / rate
        return "" if seconds is None else f"{duration(seconds)} left"

    def _print_line(self) -> None:
        self._printed = self.done
        share = f" of {self.total:,.0f}" if self.total else ""
        parts = (f"{self.done:,.0f}{share} {self.unit}", self._rate(), self._left(), self.words)
        print(f"{self.name}: {', '.join(part for part in parts if part)}", file=sys.stderr)

    def finish(self) -> None:
        """Print the last word of a stage that took long enough to have printed others."""
        if self._last_line != self._start and self._printed != self.done:
            self._print_line()


class _LiveBar(Bar):
    """A `Bar` drawn by rich on a terminal."""

    def __init__(self, name: str, total: float | None, unit: str, progress: "Progress") -> None:
        super().__init__(name, total, unit)
        self._progress = progress
        self._task = progress.add_task(name, total=total, rate="", words="", left="")

    def _show(self) -> None:
        self._progress.update(
            self._task,
            completed=self.done,
            total=self.total,
            rate=self._rate(),
            words=self.words,
            left=self._left(),
        )

    def finish(self) -> None:
        self._progress.update(self._task, total=self.total or self.done, left="")


@contextmanager
def progress_bar(name: str, total: float | None = None, unit: str = "items") -> Iterator[Bar]:
    """The progress line of one stage, written to standard error."""
    # rich is only imported where something long is done: `generate` has to answer at once.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        bar = Bar(name, total, unit)
        yield bar
        bar.finish()
        return
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console) as progress:
        live = _LiveBar(name, total, unit, progress)
        yield live
        live.finish()


def duration(seconds: float) -> str:
    """A length of time in words of about two digits: 48 s, 12 min, 3 h 20 min, 4 d 6 h."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def say(line: str) -> None:
    """Print one line about what happens to standard error, so that standard output stays for results."""
    print(harmless(line), file=sys.stderr, flush=True)


def harmless(text: str) -> str:
    """A text for the terminal: names of files and tensors, and models' words, are a stranger's; none may steer it."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
