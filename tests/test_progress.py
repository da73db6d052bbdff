import csv
import io
import json
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from events import WATCHDOG_SECONDS

from radstack.core import progress
from radstack.core.artifact import Artifact
from radstack.core.progress import Log, Meter, titled, track
from radstack.core.say import say
from radstack.running.tasks import Task, attempt
from radstack.submission import kaggle as kaggle_client


class Clock:
    """Stands for ``time`` in the module under test."""

    now = 1000.0

    def perf_counter(self):
        return self.now

    time = perf_counter

    def time_ns(self):
        return int(1e9 * self.now)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_figures_are_smoothed_loss_rate_and_waiting_share(clock):
    meter = Meter()
    for loss in (1.0, 3.0):
        clock.now += 2
        meter.add(loss=loss, images=64, wait=0.5, lr=1e-4)
    expected_loss = (0.98 * 0.02 * 1.0 + 0.02 * 3.0) / (1 - 0.98**2)
    assert meter.figures() == pytest.approx({"loss": expected_loss, "lr": 1e-4, "images/s": 32.0, "waiting": 0.25})


def test_a_loop_longer_than_foreseen_has_no_time_left(clock):
    """Epochs that draw some slices of each series differ a little in length."""
    said = []
    with progress.track(2, "train", report=said.append) as track_of_it:
        for _ in range(3):
            clock.now += 10
            track_of_it.step()
    assert said == ["train: 1/2, 0:10 left", "train: 2/2, 0:00 left", "train: 3/2, 0:00 left", "train: 3/2, done after 0:30"]


def test_rates_follow_the_last_hundred_steps(clock):
    meter = Meter()
    for seconds in [1] * 150 + [4] * 150:
        clock.now += seconds
        meter.add(images=8)
    assert meter.figures()["images/s"] == pytest.approx(2.0)


def test_lines_every_ten_seconds_and_at_the_end(clock):
    lines = []
    with track(200, "train fold 0", done=100, report=lines.append) as steps:
        for _ in range(25):
            clock.now += 1
            steps.step(loss=0.5, lr=6e-5, images=32, wait=0.04)
    assert lines == [
        "train fold 0: 110/200, 1:30 left, loss 0.5, lr 6e-05, 32 images/s, 4% waiting for data",
        "train fold 0: 120/200, 1:20 left, loss 0.5, lr 6e-05, 32 images/s, 4% waiting for data",
        "train fold 0: 125/200, done after 0:25, loss 0.5, lr 6e-05, 32 images/s, 4% waiting for data"]


def test_an_error_is_said_and_passes_on(clock):
    lines = []
    with pytest.raises(KeyError), track(3, "x", report=lines.append) as steps:
        steps.step()
        raise KeyError
    assert lines == ["x: 1/3, stopped after 0:00"]


def test_lines_go_through_the_running_job_by_default(clock):
    lines = []
    attempt(Task("fold 3", count_to_two), lines.append)
    assert lines == ["fold 3: count: 2/2, done after 0:00"]


def test_a_brief_stage_says_nothing_unless_it_takes_long_and_one_of_unknown_length_counts(clock):
    lines = []
    for seconds in (1, 4):
        with track(None, "list", report=lines.append, brief=True) as steps:
            for _ in range(4):
                clock.now += seconds
                steps.step(100)
    assert lines == ["list: 300", "list: 400, done after 0:16"]
    with track(0, "nothing to do", report=lines.append):
        pass
    assert len(lines) == 2


def test_pictures_that_keep_a_loop_waiting_are_told_of(clock):
    def slow():
        for number in range(6):
            clock.now += 3
            yield number

    lines, seen = [], []
    with track(6, "look", report=lines.append) as steps:
        for number in steps.over(slow()):
            clock.now += 1
            seen.append(number)
    assert seen == list(range(6))
    assert lines == [f"look: {told}, 0.25 images/s, 75% waiting for data"
                     for told in ("3/6, 0:12 left", "6/6, 0:00 left", "6/6, done after 0:24")]


def test_a_download_says_how_much_is_missing_once_its_size_is_noted(clock, tmp_path, monkeypatch):
    monkeypatch.setattr(kaggle_client, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    (tmp_path / "all.zip").write_bytes(bytes(3_000_000))
    lines, known = [], threading.Event()

    def report(line):
        lines.append(line)
        if line.startswith("download, MB: 5/8, 0:00 left"):
            known.set()

    with kaggle_client._watched(tmp_path, "download", report):
        (tmp_path / f"all.zip{kaggle_client.MARKER_SUFFIX}").write_text('{"validator": "x", "size": 8000000}')
        with (tmp_path / "all.zip").open("ab") as handle:
            handle.write(bytes(2_000_000))
        assert known.wait(WATCHDOG_SECONDS)
        (tmp_path / "all.zip").write_bytes(bytes(8_000_000))
    assert lines[-1].startswith("download, MB: 8/8, done after 0:0")


def test_a_manifest_holds_the_peak_of_memory_and_its_key_does_not(tmp_path, monkeypatch):
    made = [Artifact("test", 1, (tmp_path / name,), {}) for name in "ab"]
    filled = np.ones(50_000_000, np.uint8)  # the peak is of resident memory
    made[0].make(lambda: made[0].files[0].touch())
    peak = json.loads(made[0].manifest.read_text())["peak_mb"]
    assert len(filled) / 1e6 < peak < 100_000
    cuda = SimpleNamespace(is_initialized=lambda: True, device_count=lambda: 2, max_memory_allocated=lambda n: 3e6 + n)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    made[1].make(lambda: made[1].files[0].touch())
    assert json.loads(made[1].manifest.read_text())["peak_gpu_mb"] == 3
    assert made[0].key == made[1].key


def count_to_two():
    with track(2, "count") as steps:
        steps.step(2)


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = a_terminal(monkeypatch)
    with titled("train net fold 0"), track(4, "train", report=say) as steps, track(9, "classes", brief=True) as inner:
        inner.step()
        steps.step(3, loss=0.25, lr=1e-4)
    shown = terminal.getvalue()
    assert all(words in shown for words in ("train net fold 0: train", "3/4", "0:00 left, loss 0.25, lr 0.0001", "1/9"))


def test_lines_wanted_elsewhere_or_in_a_file_make_no_bar(monkeypatch, capsys):
    terminal, lines = a_terminal(monkeypatch), []
    with track(1, "count", report=lines.append) as steps:
        steps.step()
    monkeypatch.setattr("sys.stdout", file := io.StringIO())
    with track(1, "count") as steps:
        steps.step()
    assert lines == ["count: 1/1, done after 0:00"] and file.getvalue() == f"{lines[0]}\n" and not terminal.getvalue()


def a_terminal(monkeypatch):
    """What is shown on a terminal that takes standard output and error from now on."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def test_log_appends_and_a_resumed_run_drops_what_it_repeats(tmp_path):
    log = Log(tmp_path)
    for step in (10, 20, 30):
        log.write(step, {"loss": step / 100})
    with (tmp_path / "figures.csv").open("a") as handle:
        handle.write("40,17000")  # a line cut short by a kill
    log.close()
    log = Log(tmp_path, done=20)
    log.write(30, {"loss": 9.0, "lr": 1e-3})
    log.close()
    rows = list(csv.DictReader((tmp_path / "figures.csv").open()))
    assert [(row["step"], row["name"], row["value"]) for row in rows] == [
        ("10", "loss", "0.1"), ("20", "loss", "0.2"), ("30", "loss", "9.0"), ("30", "lr", "0.001")]
    assert scalars(tmp_path, "loss") == pytest.approx({10: 0.1, 20: 0.2, 30: 9.0})
    Log(tmp_path).close()
    assert (tmp_path / "figures.csv").read_text().split() == ["step,time,name,value"]


def scalars(folder, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(folder))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(name)}


@pytest.mark.parametrize(("total", "steps"), [(10_000, (10, 12)), (300, (3, 6, 9, 10, 12)), (12, range(1, 13))])
def test_track_writes_the_log_at_the_pace_of_its_lines_and_short_runs_a_curve(clock, tmp_path, total, steps):
    with track(total, "train", report=lambda _: None, log=Log(tmp_path)) as track_of_it:
        for _ in range(12):
            clock.now += 1
            track_of_it.step(loss=1.0)
    rows = list(csv.DictReader((tmp_path / "figures.csv").open()))
    assert [(row["step"], row["name"], float(row["value"])) for row in rows] == [(str(step), "loss", 1.0) for step in steps]


def test_counter_says_the_time_left_and_the_end_and_leaves_out_what_was_there(clock, capsys):
    with progress.counter("draw") as tell:
        for done in range(9, 21):
            clock.now += 1
            tell(done, 20)
    assert capsys.readouterr().out.split("\n") == ["draw: 18/20, 0:02 left", "draw: 20/20, done after 0:12", ""]
