"""A script whose output nobody reads any more, as behind ``| head``, ends quietly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from radstack.core.say import NOBODY_READS

HERE = Path(__file__).parent
SRC = HERE.parent / "src"
FEW_LINES = ["doctor.py", "ich", "--demo"]
MANY_LINES = ["07_stack.py", "ich", "--demo", "--dry-run"]
PATHS = os.pathsep.join(map(str, (SRC, HERE)))


def into_closed_pipe(*command: str, **environment: str) -> tuple[int, str]:
    """Exit status and standard error of a Python ``command`` that writes into a pipe without a reader."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, *command], stdout=writing, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, **environment})
    os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("script", [FEW_LINES, MANY_LINES], ids=lambda script: script[0])
def test_a_script_ends_quietly_when_its_pipe_closes(tmp_path, script, unbuffered):
    name, *arguments = script
    status, said = into_closed_pipe(str(SRC / name), *arguments, "--data-dir", str(tmp_path), "--out-dir", str(tmp_path),
                                    PYTHONUNBUFFERED=unbuffered)
    assert status in (0, NOBODY_READS) and said == ""


def test_an_error_is_said_although_the_pipe_is_closed(tmp_path):
    status, said = into_closed_pipe(str(SRC / "verify.py"), "ich", "--demo", "--data-dir", str(tmp_path))
    assert status == 1 and said.startswith("error: ") and "Traceback" not in said


def test_lines_of_other_processes_end_the_script_as_well():
    """Both jobs talk from processes of their own; the script itself prints nothing."""
    code = ("from radstack.running.cli import run; from radstack.running.tasks import Task, run_tasks; "
            "from jobs import double; "
            "jobs = [Task(name, double, (1,)) for name in 'ab']; "
            "run(lambda: run_tasks(jobs, report=print, at_once=2))")
    light = os.pathsep.join((str(HERE / "light"), PATHS))
    assert into_closed_pipe("-c", code, PYTHONPATH=light) == (NOBODY_READS, "")


def test_another_broken_pipe_is_an_error_like_any_other():
    code = ("from radstack.running.cli import run\n"
            "def main(): raise BrokenPipeError('of a socket')\n"
            "run(main)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": PATHS})
    assert done.returncode == 1 and "BrokenPipeError: of a socket" in done.stderr
