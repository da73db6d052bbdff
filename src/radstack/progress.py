"""Progress of long stages: a bar on a terminal, a plain line every ten seconds elsewhere, the same figures on disk."""

import csv
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from radstack.files import replacing
from radstack.say import say

LINE_SECONDS = 10.0
"""Time between two plain lines, and between two entries of a :class:`Log`."""
SMOOTHING = 0.98
"""Decay of the loss average per step: about the last fifty steps."""
RATE_STEPS = 100
"""Images per second and the waiting share are taken over this many last steps."""


class Meter:
    """Smooths what a loop reports: ``loss`` is averaged, ``images`` and ``wait`` become rates, the rest stays."""

    def __init__(self) -> None:
        """Begin now, with nothing seen."""
        self._latest: dict[str, float] = {}
        self._loss_sum = self._loss_weight = 0.0
        self._recent: deque[tuple[float, float, float]] = deque([(time.perf_counter(), 0.0, 0.0)], maxlen=RATE_STEPS)

    def add(self, loss: float | None = None, images: float = 0, wait: float = 0, **fields: float) -> None:
        """Take one step's ``loss``, count of ``images``, seconds of ``wait`` for data, and any other named figures."""
        self._recent.append((time.perf_counter(), images, wait))
        self._latest |= fields
        if loss is not None:
            self._loss_sum = SMOOTHING * self._loss_sum + (1 - SMOOTHING) * loss
            self._loss_weight = SMOOTHING * self._loss_weight + (1 - SMOOTHING)

    def figures(self) -> dict[str, float]:
        """``loss`` (bias-corrected as in Adam), ``images/s``, ``waiting`` (share of time, 0-1), the latest others."""
        (start, *_), *steps = self._recent
        seconds = max(steps[-1][0] - start, 1e-9) if steps else 1.0
        images, wait = (sum(step[column] for step in steps) for column in (1, 2))
        return ({"loss": self._loss_sum / self._loss_weight} if self._loss_weight else {}) | self._latest | (
            {"images/s": images / seconds, "waiting": wait / seconds} if images else {})


class Log:
    """Figures of a run on disk: ``figures.csv`` (step, seconds since 1970, name, value) and TensorBoard events."""

    def __init__(self, folder: Path, done: int = 0) -> None:
        """Open both in ``folder``, which is made when missing, with the entries of the first ``done`` steps.

        Later ones are dropped: they were left by a run that was killed and is now resumed from an earlier checkpoint
        (or, with ``done`` 0, started anew).
        """
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it

        self._table = folder / "figures.csv"
        self._keep(done)
        self._events = SummaryWriter(str(folder), purge_step=done + 1 if done else 0)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Append ``figures`` of ``step``; on disk when this returns."""
        with self._table.open("a", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows((step, f"{time.time():.1f}", name, value) for name, value in figures.items())
        for name, value in figures.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def close(self) -> None:
        """Close the event file."""
        self._events.close()

    def _keep(self, done: int) -> None:
        rows: list[list[str]] = []
        if self._table.exists():
            with self._table.open(newline="", encoding="utf-8") as handle:
                whole = (row for row in csv.reader(handle) if len(row) == 4 and row[0].isdigit())
                rows = [row for row in whole if int(row[0]) <= done and done]
        with replacing(self._table) as part, part.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([["step", "time", "name", "value"], *rows])


class Track:
    """Counts steps and says so in a plain line at most every ``LINE_SECONDS``, and at the end. Use it in a ``with``."""

    def __init__(self, total: int, what: str, done: int, report: Callable[[str], None], log: Log | None) -> None:
        """Start the clock; see :func:`track` for the arguments."""
        self.total, self.what, self.done = total, what, done
        self._first, self._report, self._log, self._meter = done, report, log, Meter()
        self._start = self._last = time.perf_counter()

    def step(self, n: int = 1, **fields: float) -> None:
        """Count ``n`` steps; ``fields`` go to :meth:`Meter.add`."""
        self.done += n
        self._meter.add(**fields)
        self._show()
        if time.perf_counter() - self._last >= LINE_SECONDS:
            self._last = time.perf_counter()
            self._write()

    def __enter__(self) -> Self:
        """Return the track itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        """Write the last figures; after an error they say how far the stage came."""
        self._write(ending="stopped" if kind else "done")

    def _show(self) -> None:
        """Shown at every step; plain lines are not."""

    def _write(self, ending: str = "") -> None:
        figures = self._meter.figures()
        if self._log and figures:
            self._log.write(self.done, figures)
        self._line(ending, figures)

    def _line(self, ending: str, figures: dict[str, float]) -> None:
        seconds = time.perf_counter() - self._start
        left = (self.total - self.done) * seconds / max(self.done - self._first, 1)
        when = f"{ending} after {clock(seconds)}" if ending else f"{clock(left)} left"
        self._report(", ".join([f"{self.what}: {self.done}/{self.total}", when, *describe(figures)]))


class Bar(Track):
    """A :class:`Track` drawn by rich as one bar on the terminal."""

    def __init__(self, total: int, what: str, done: int, report: Callable[[str], None], log: Log | None) -> None:
        """Prepare the bar; see :func:`track` for the arguments."""
        super().__init__(total, what, done, report, log)
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                             TextColumn("{task.fields[figures]}"), console=Console(file=sys.stderr))
        self._task = self._bar.add_task(what, total=total, completed=done, figures="")

    def __enter__(self) -> Self:
        """Draw the bar."""
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        """Leave the bar as it last stood."""
        super().__exit__(kind, *rest)
        self._bar.stop()

    def _show(self) -> None:
        figures = ", ".join(describe(self._meter.figures()))
        self._bar.update(self._task, completed=self.done, figures=figures)

    def _line(self, ending: str, figures: dict[str, float]) -> None:
        """The bar already shows them."""


def track(total: int, what: str, *, done: int = 0, report: Callable[[str], None] | None = None,
          log: Log | None = None) -> Track:
    """A bar when standard error is a terminal and no ``report`` is given, else plain lines.

    Args:
        total: steps in the whole stage.
        what: what the steps are, for the reader, e.g. ``"train se_resnext50 fold 0"``.
        done: steps an earlier, interrupted run already made; they count as progress but not as speed.
        report: takes the lines; by default :func:`radstack.say.say`, which brings them from any machine to the
            driver.
        log: takes the figures, at the pace of the lines.

    Example:
        ``with track(len(batches), "train") as steps: steps.step(loss=0.3, lr=1e-4, images=32, wait=0.01)``
    """
    kind = Bar if report is None and sys.stderr.isatty() else Track
    return kind(total, what, done, report or say, log)


def describe(figures: dict[str, float]) -> list[str]:
    """Figures in words, e.g. ``["loss 0.0712", "lr 6e-05", "83 images/s", "4% waiting for data"]``."""
    special = {"images/s": "{:.0f} images/s", "waiting": "{:.0%} waiting for data"}
    return [special.get(name, name + " {:.4g}").format(value) for name, value in figures.items()]


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, e.g. ``1:02:03`` or ``2:03``."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def counter(what: str) -> Callable[[int, int], None]:
    """A function (done, total) for code that counts by itself: a line at most every ``LINE_SECONDS``, and at the end."""
    last = time.perf_counter()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.perf_counter() - last >= LINE_SECONDS:
            last = time.perf_counter()
            say(f"{what}: {done}/{total}")

    return tell
