"""Items in processes of their own: killed ones, errors, Ctrl-C, the parent's death."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from events import watchdog
from workers import die, fail, square

from radstack.core.errors import Missing, UserError
from radstack.core.parallel import in_processes, outcomes
from radstack.running.tasks import Task, run_tasks

HERE = Path(__file__).parent
PATHS = os.pathsep.join(map(str, (HERE, HERE.parent / "src")))


def test_each_item_is_answered_once():
    assert dict(in_processes(square, list(range(20)), 3)) == {n: n * n for n in range(20)}


def test_a_killed_item_is_tried_once_more_and_the_others_go_on(tmp_path):
    items = [1, str(tmp_path / "once"), 2, 3, 4]
    assert dict(in_processes(die, items, 2)) == dict(enumerate(items))
    done = []
    with pytest.raises(UserError, match=r"killed \(SIGKILL\), perhaps for memory.*run the same command again.*--workers"):
        done.extend(in_processes(die, [1, -1, 2, 3, 4], 2))
    assert sorted(done) == [(0, 1), (2, 2), (3, 3), (4, 4)]


def test_only_the_job_of_a_killed_process_fails(monkeypatch):
    monkeypatch.syspath_prepend(HERE / "light")
    todo = [Task(f"j{number}", die, (number,)) for number in (0, 1, -1, 3, 4, 5)]
    lines = []
    failed = r"^1 of 6 jobs failed: j-1 \(its process was killed, perhaps for memory \(SIGKILL\)"
    with pytest.raises(UserError, match=failed):
        run_tasks(todo, report=lines.append, at_once=2)
    assert lines == ["j-1: its process was killed, perhaps for memory (SIGKILL); run fewer with --jobs"]


@pytest.mark.parametrize(("kind", "error"), [("missing", Missing), ("odd", RuntimeError)])
def test_an_error_comes_back_as_what_it_is(kind, error):
    with pytest.raises(error) as caught:
        list(outcomes(fail, [kind], 1))
    assert kind == "odd" or "workers.py" in caught.value.__notes__[0]


STAGE = """
import sys
from radstack.running.cli import run
from radstack.core.parallel import in_processes
from workers import sleep
run(lambda: list(in_processes(sleep, [{door!r}] * 4, 2)))
"""


ENDS = [("parent", "SIGINT"), ("parent", "SIGKILL"), ("group", "SIGINT"), ("parent", "SIGTERM"), ("group", "SIGHUP")]


def as_in_a_script():
    """As behind the & of a script, in whose programs SIGINT is ignored; SIGHUP ends them, also under nohup."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize(("whom", "name"), ENDS)
def test_no_process_is_left_and_ctrl_c_prints_one_line(tmp_path, whom, name):
    """Every worker holds the pipe open for writing; its end comes when all are gone."""
    door, number = tmp_path / "door", signal.Signals[name]
    os.mkfifo(door)
    reading = os.open(door, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(door, os.O_WRONLY)  # so that the pipe does not end before the workers come
    os.set_blocking(reading, True)
    stage = subprocess.Popen([sys.executable, "-c", STAGE.format(door=str(door))], stderr=subprocess.PIPE, text=True,
                             env={**os.environ, "PYTHONPATH": PATHS}, start_new_session=True,
                             preexec_fn=as_in_a_script)
    try:
        with watchdog(120):
            assert os.read(reading, 1) + os.read(reading, 1) == b"++"
            os.close(writing)
            (os.killpg if whom == "group" else os.kill)(stage.pid, number)
            assert os.read(reading, 1) == b""
            said, status = stage.stderr.read(), stage.wait()
    finally:
        stage.kill()
    os.close(reading)
    interrupted = number == signal.SIGINT
    assert said == ("interrupted; run the same command to go on\n" if interrupted else "")
    assert status == (130 if interrupted else -number)
