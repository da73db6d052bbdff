import csv
import io

import pytest

from radstack import progress
from radstack.job import Job, attempt
from radstack.progress import Log, Meter, track


class Clock:
    """Stands for ``time`` in the module under test."""

    now = 1000.0

    def perf_counter(self):
        return self.now

    time = perf_counter


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
    attempt(Job("fold 3", "test_progress:count_to_two"), lines.append)
    assert lines == ["fold 3: count: 2/2, done after 0:00"]


def count_to_two():
    with track(2, "count") as steps:
        steps.step(2)


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("TERM", "xterm")
    with track(4, "localize") as steps:
        steps.step(3, loss=0.25, lr=1e-4)
    assert "localize" in terminal.getvalue() and "3/4" in terminal.getvalue() and "loss 0.25" in terminal.getvalue()


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


def test_track_writes_the_log_at_the_pace_of_its_lines(clock, tmp_path):
    log = Log(tmp_path)
    with track(30, "train", report=lambda _: None, log=log) as steps:
        for _ in range(12):
            clock.now += 1
            steps.step(loss=1.0)
    rows = list(csv.DictReader((tmp_path / "figures.csv").open()))
    assert [(row["step"], row["name"], float(row["value"])) for row in rows] == [
        ("10", "loss", 1.0), ("12", "loss", 1.0)]


def test_counter_says_the_end(clock, capsys):
    tell = progress.counter("draw")
    for done in range(1, 13):
        clock.now += 1
        tell(done, 12)
    assert capsys.readouterr().out.split("\n") == ["draw: 10/12", "draw: 12/12", ""]
