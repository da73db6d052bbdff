"""Where nobody reads the output any more, training goes on and its lines go to a log beside the weights."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from events import watchdog

from radstack.core.say import Steady, lost_to, to_stdout

HERE = Path(__file__).parent
PATHS = os.pathsep.join(map(str, (HERE / "light", HERE, HERE.parent / "src")))
STAGE = """
import sys
from pathlib import Path
from radstack.core.say import lost_to, say
from radstack.core.progress import track
from radstack.running.cli import run
from radstack.running.tasks import Task, run_tasks
from workers import talk

def main():
    lost_to(Path({log!r}))
    jobs = [Task(name, talk, ({place!r} + "/door-" + name, {place!r} + "/made-" + name)) for name in {names!r}]
    run_tasks(jobs, report=print, at_once={at_once})
    print("all done")

if __name__ == "__main__":
    run(main)
"""


@pytest.fixture
def stage(tmp_path):
    """Starts jobs that talk, wait at a door, talk again and make a file; gives its process, the door and its files."""
    log = tmp_path / "weights" / "lost_output.log"

    def start(at_once, **how):
        for name in "ab"[:at_once]:
            os.mkfifo(tmp_path / f"door-{name}")
        code = STAGE.format(log=str(log), place=str(tmp_path), names="ab"[:at_once], at_once=at_once)
        return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": PATHS}, **how), log

    return start


def open_doors(folder):
    """Let the jobs that wait, or will, go on."""
    for door in folder.glob("door-*"):
        door.write_text("+")


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_closed_pipe_ends_no_job(stage, tmp_path, at_once):
    run, log = stage(at_once, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with watchdog(120):
        first = run.stdout.readline()
        run.stdout.close()
        open_doors(tmp_path)
        assert run.wait() == 0 and run.stderr.read() == ""
    run.stderr.close()
    assert first.endswith(": begins\n")
    text = log.read_text()
    assert "nobody reads the output" in text and text.count(": ends") == at_once and "all done" in text
    assert len(list(tmp_path.glob("made-*"))) == at_once


def own_terminal():
    """Its input is its terminal, whose loss ends nothing else; SIGHUP is not ignored, also where nohup runs the tests."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("hang_up", [True, False], ids=["lost", "SIGHUP alone"])
def test_a_lost_terminal_ends_no_job_but_a_signal_does(stage, tmp_path, hang_up):
    """In a session whose terminal it is: its loss sends SIGHUP, and writing to it fails from then on."""
    ours, theirs = pty.openpty()
    run, log = stage(1, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
                           preexec_fn=own_terminal)
    os.close(theirs)
    with watchdog(120):
        assert b"begins" in os.read(ours, 1000)
        if hang_up:
            os.close(ours)
            open_doors(tmp_path)
            assert run.wait() == 0
            assert "a: ends" in log.read_text() and (tmp_path / "made-a").exists()
        else:
            while run.poll() is None:  # Python sees a signal that comes just before it waits at the door only behind it
                os.kill(run.pid, signal.SIGHUP)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.wait(1)
            assert run.returncode == -signal.SIGHUP
            os.close(ours)


def test_a_full_disk_under_the_output_stops_nothing(tmp_path):
    """Standard output is a file on a full disk, and so is the log."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    code = (f"from pathlib import Path; import radstack.core.say as say; say.lost_to(Path({str(tmp_path / 'x' / 'log')!r}));"
            f"from radstack.running.cli import run;"
            f"run(lambda: (print('one', flush=True), print('two'), Path({str(tmp_path / 'made')!r}).touch()))")
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": PATHS})
    assert (done.returncode, done.stderr) == (0, "") and (tmp_path / "made").exists()
    assert (tmp_path / "x" / "log").read_text().splitlines()[1:] == ["one", "two"]


def test_output_that_was_never_open(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    to_stdout("a line")


def test_other_answers_of_a_stream_pass(capsys):
    stream = Steady(sys.stdout)
    assert stream.encoding == sys.stdout.encoding and not stream.isatty()
    stream.write("x")
    stream.flush()
    assert capsys.readouterr().out == "x"
    lost_to(None)
