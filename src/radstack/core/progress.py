"""Progress of long stages: a bar on a terminal, a plain line every ten seconds elsewhere, the same figures on disk."""

import csv
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Self, TypeVar

from radstack.core.files import HOST, replacing, writing
from radstack.core.say import Report, say

T = TypeVar("T")
LEAST_WIDTH = 40  # Columns of a terminal in which a bar has room
LINE_SECONDS = 10.0  # Time between two plain lines, and the longest between two entries of a :class:`Log`
LOG_PARTS = 100
"""A :class:`Log` gets an entry at every such part of the steps as well, so that short runs have a curve, too."""
SMOOTHING = 0.98  # Decay of the loss average per step: about the last fifty steps
RATE_STEPS = 100  # Images per second and the waiting share are taken over this many last steps


class Meter:
    """Smooths what a loop reports: ``loss`` is averaged, ``images`` and ``wait`` become rates, the rest stays."""

    def __init__(self) -> None:
        self._latest: dict[str, float] = {}
        self._loss_sum = self._loss_weight = 0.0
        self._recent: deque[tuple[float, float, float]] = deque([(time.perf_counter(), 0.0, 0.0)], maxlen=RATE_STEPS)
        self._waits = False

    def add(self, loss: float | None = None, images: float = 0, wait: float | None = None, **fields: float) -> None:
        """Take one step's ``loss``, count of ``images``, seconds of ``wait`` for data, and any other named figures."""
        self._recent.append((time.perf_counter(), images, wait or 0.0))
        self._waits |= wait is not None
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
            {"images/s": images / seconds} if images else {}) | ({"waiting": wait / seconds} if self._waits else {})


class Events:
    """TensorBoard's event file, written at once: an error comes to the caller, not to a thread as in ``SummaryWriter``."""

    def __init__(self, folder: Path, purge: int) -> None:
        """Open a new file in ``folder``; TensorBoard forgets what older files say of the steps from ``purge`` on."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # slow to import, and only training needs it
        from tensorboard.summary.writer.record_writer import RecordWriter

        # Files are read in the order of their names: nanoseconds keep two of one second in order.
        self._writer = RecordWriter((folder / f"events.out.tfevents.{time.time_ns()}.{HOST}.{os.getpid()}").open("xb"))
        self._add(Event(file_version="brain.Event:2", step=purge))
        self._add(Event(session_log=SessionLog(status=SessionLog.START), step=purge))

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Append ``figures`` of ``step``."""
        from tensorboard.compat.proto.event_pb2 import Event
        from torch.utils.tensorboard.summary import scalar

        for name, value in figures.items():
            self._add(Event(step=step, summary=scalar(name, value)))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())


class Log:
    """Figures of a run on disk: ``figures.csv`` (step, seconds since 1970, name, value) and TensorBoard events."""

    def __init__(self, folder: Path, done: int = 0) -> None:
        """Open both in ``folder`` with the entries of the first ``done`` steps.

        Later ones were left by a run that was killed and now resumes from an earlier checkpoint, or is started anew.
        """
        self._table = folder / "figures.csv"
        self._keep(done)
        with writing(self._table):
            self._events = Events(folder, done + 1 if done else 0)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Append ``figures`` of ``step``; on disk when this returns."""
        with writing(self._table):
            with self._table.open("a", newline="", encoding="utf-8") as handle:
                csv.writer(handle).writerows((step, f"{time.time():.1f}", name, value) for name, value in figures.items())
            self._events.write(step, figures)

    def close(self) -> None:
        """Close the event file."""
        with writing(self._table):
            self._events.close()

    def _keep(self, done: int) -> None:
        text = self._table.read_text(encoding="utf-8") if done and self._table.exists() else ""
        whole = (row for row in csv.reader(text.splitlines()) if len(row) == 4 and row[0].isdigit())
        with replacing(self._table) as part, part.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([["step", "time", "name", "value"], *(row for row in whole if int(row[0]) <= done)])


class Track:
    """Counts steps and says so in a plain line at most every ``LINE_SECONDS``, and at the end. Use it in a ``with``."""

    def __init__(self, total: int | None, what: str, done: int, report: Report, log: Log | None,
                 brief: bool) -> None:
        self.total, self.what, self.done = total, what, done
        self._first, self._report, self._log, self._meter, self._brief = done, report, log, Meter(), brief
        self._logged, self._start = done, time.perf_counter()
        self._last = self._start

    def step(self, n: int = 1, **fields: float) -> None:
        """Count ``n`` steps; ``fields`` go to :meth:`Meter.add`."""
        self.done += n
        self._meter.add(**fields)
        self._show()
        due = time.perf_counter() - self._last >= LINE_SECONDS
        if due or LOG_PARTS * (self.done - self._logged) >= (self.total or 0):
            self._write_log()
        if due:
            self._last = time.perf_counter()
            self._line()

    def over(self, items: Iterable[T], pictures: Callable[[T], int] = lambda item: 1) -> Iterator[T]:
        """Yield ``items``, each as many steps as it holds ``pictures``, once it is dealt with.

        The time that they take to come is waiting for data.
        """
        start = time.perf_counter()
        for item in items:
            wait, count = time.perf_counter() - start, pictures(item)
            yield item
            self.step(count, images=count, wait=wait)
            start = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        """Write the last figures and close the log; after an error the line says how far the stage came."""
        if self._log:
            self._write_log()
            self._log.close()
        short = self._brief and time.perf_counter() - self._start < LINE_SECONDS
        if not short and (self.total or self.done):
            self._line("stopped" if kind else "done")

    def _show(self) -> None:
        """Shown at every step; plain lines are not."""

    def _write_log(self) -> None:
        if self._log and self.done > self._logged and (figures := self._meter.figures()):
            self._log.write(self.done, figures)
            self._logged = self.done

    def _line(self, ending: str = "") -> None:
        count = str(self.done) if self.total is None else f"{self.done}/{self.total}"
        self._report(", ".join(filter(None, [f"{self.what}: {count}", self._words(ending)])))

    def _words(self, ending: str = "") -> str:
        """Time left where it is known, or how it ended, and the figures."""
        seconds, made = time.perf_counter() - self._start, self.done - self._first
        known = []
        if self.total is not None and made > 0:
            known = [f"{clock(max(self.total - self.done, 0) * seconds / made)} left"]
        return ", ".join([*([f"{ending} after {clock(seconds)}"] if ending else known), *describe(self._meter.figures())])


class Bar(Track):
    """A :class:`Track` drawn by rich as one bar on the terminal, a brief one until it is done."""

    def __init__(self, total: int | None, what: str, done: int, *rest: Any) -> None:
        from rich.console import Console  # most runs of a stage draw nothing
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__(total, what, done, *rest)
        name, words = (TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[words]"))
        width = shutil.get_terminal_size().columns if "COLUMNS" in os.environ else None  # rich takes COLUMNS=0 as it stands
        self._bar = Progress(name, BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), words,
                             console=Console(file=sys.stderr, width=width), transient=self._brief)
        whole = f"{_title}: {what}" if _title else what
        self._task = self._bar.add_task(whole, total=total, completed=done, words="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        super().__exit__(kind, *rest)
        self._bar.stop()

    def _show(self) -> None:
        self._bar.update(self._task, total=self.total, completed=self.done, words=self._words())

    def _line(self, ending: str = "") -> None:
        """The bar already shows it, unless its terminal is lost: then the lines are what remains."""
        if not sys.stderr.isatty():
            super()._line(ending)


class OneOutput(Track):
    """A :class:`Track` in a notebook: one output that is written over, where each line would be stored with the notebook."""

    _shown: Any = None

    def _line(self, ending: str = "") -> None:
        count = f"{self.done}/{self.total}" if self.total else str(self.done)
        what = f"{_title}: {self.what}" if _title else self.what
        text = {"text/plain": f"{what}: {count}, {self._words(ending)}"}
        if self._shown is None:
            self._shown = sys.modules["IPython.display"].display(text, raw=True, display_id=True)
        else:
            self._shown.update(text, raw=True)


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this."""
    return "ipykernel" in sys.modules and "IPython.display" in sys.modules


def _watched() -> bool:
    """Whether a person looks at a terminal that can draw a bar: one that moves its cursor and has room for it."""
    able = os.environ.get("TERM", "") not in ("dumb", "unknown") and shutil.get_terminal_size().columns >= LEAST_WIDTH
    return sys.stderr.isatty() and sys.stdout.isatty() and able


def track(total: int | None, what: str, *, done: int = 0, report: Report | None = None,
          log: Log | None = None, brief: bool = False) -> Track:
    """A bar when a person watches this process and lines are not wanted elsewhere, else plain lines.

    Args:
        total: steps in the whole stage; None when nobody knows, then no time left is given.
        what: what the steps are, for the reader, e.g. ``"train se_resnext50 fold 0"``.
        done: steps an earlier, interrupted run already made; they count as progress but not as speed.
        report: takes the lines; by default :func:`radstack.core.say.say`. With any other there is no bar.
        log: takes the figures, at least at the pace of the lines; it is closed at the end.
        brief: say nothing where all is done before the first line is due.

    Example:
        ``with track(len(batches), "train") as steps: steps.step(loss=0.3, lr=1e-4, images=32, wait=0.01)``
    """
    # Bars of several processes would draw over each other, and what belongs into a file must get there.
    kind: type[Track] = Track
    if parent_process() is None and report in (None, say):
        kind = OneOutput if _in_notebook() else Bar if _watched() else Track
    return kind(total, what, done, report or say, log, brief)


_title = ""


@contextmanager
def titled(name: str) -> Iterator[None]:
    """Bars drawn in the block start with ``name``, that of a job, as its plain lines do anyway."""
    global _title
    before, _title = _title, name
    try:
        yield
    finally:
        _title = before


def describe(figures: dict[str, float]) -> list[str]:
    """Figures in words, e.g. ``["loss 0.0712", "lr 6e-05", "83 images/s", "4% waiting for data"]``."""
    quick = figures.get("images/s", 0) >= 10
    special = {"images/s": "{:.0f} images/s" if quick else "{:.2g} images/s", "waiting": "{:.0%} waiting for data"}
    return [special.get(name, name + " {:.4g}").format(value) for name, value in figures.items()]


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, e.g. ``1:02:03`` or ``2:03``."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


@contextmanager
def counter(what: str) -> Iterator[Callable[[int, int], None]]:
    """A :func:`track` for code that counts by itself: yields a function (done, total), to be called after each step."""
    with track(None, what) as steps:

        def tell(done: int, total: int) -> None:
            if steps.total is None:
                steps.total, steps.done, steps._first = total, done - 1, done - 1
            steps.step(done - steps.done)

        yield tell
