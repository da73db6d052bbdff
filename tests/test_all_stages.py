"""Stages of a run of all: in order, each a process as if it had been started by hand, none beyond the run's own end."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from events import watchdog

from radstack.core.lifetime import INTERRUPTED

SRC = Path(__file__).parents[1] / "src"
RUN = """
import sys
sys.argv[0] = "src/all_stages.py"
sys.path[0] = {src!r}
import all_stages
all_stages.COMMON, all_stages.FORKS = {common}, {forks} and all_stages.FORKS
sys.exit(all_stages.main())
"""
WAITS = """
import signal
from pathlib import Path
from radstack.running.cli import run

def main():
    print("here", flush=True)
    signal.pause()

if __name__ == "__main__":
    run(main)
"""
TOUCHES = "from pathlib import Path; Path(__file__).with_suffix('.ran').touch()"
WAYS = pytest.mark.parametrize("forks", [True, False], ids=["forked", "started"])


@pytest.fixture
def begin(tmp_path):
    """Begins a run of stages, given by name and code; ``common`` is imported before the fork, None for what really is."""
    (tmp_path / "src").mkdir()
    shutil.copy(SRC / "all_stages.py", tmp_path / "src")
    (tmp_path / "src/radstack").symlink_to(SRC / "radstack")

    def begun(stages, *given, forks=True, common=("numpy",), **how):
        for name, code in stages.items():
            (tmp_path / f"src/{name}.py").write_text(code)
        code = ["-c", RUN.format(src=str(tmp_path / "src"), common=common, forks=forks)]
        program = code if common else ["src/all_stages.py"]
        return subprocess.Popen([sys.executable, *program, "\n".join(stages), *given], cwd=tmp_path, text=True,
                                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how})

    return begun


def ended(run):
    """Status, output and errors of a run; the outputs end when no process has them open any more."""
    with watchdog(), run:
        out, err = run.communicate()
    return run.returncode, out, err


TELLS = """
import json, os, random, signal, sys, threading, warnings
loaded = sorted(name for name in sys.modules if name.startswith(("radstack.running", "radstack.recipes", "competitions")))
import multiprocessing
import cv2, numpy, pandas, pyarrow.parquet
from radstack.core.lifetime import STARTED_BY

def worker(pipe):
    pipe.send(["worker", sys.argv, sys.path, __name__])

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=worker, args=(theirs,))
    process.start()
    told = [sys.argv, sys.path, __name__, os.path.realpath(sys.modules["__main__"].__file__), loaded, os.getcwd(),
            multiprocessing.parent_process() is None, threading.active_count(), STARTED_BY == os.getppid(),
            [str(signal.getsignal(one)) for one in (signal.SIGINT, signal.SIGTERM)], list(signal.pthread_sigmask(0, [])),
            [str(one) for one in warnings.filters], dict(os.environ), ours.recv()]
    process.join()
    os.environ["OMP_NUM_THREADS"] = "7"
    sys.path.append("mine")
    numpy.random.random()
    print(json.dumps(told), [random.random(), numpy.random.random()], sep="\\n")
"""


def test_a_stage_finds_what_it_finds_when_started_by_hand_and_nothing_of_the_stage_before(begin, tmp_path):
    """Arguments, paths, variables, signals, warnings, a worker that finds the script again; other random numbers."""
    given = ("ich", "--set", "a=b c", "--ray=")
    status, out, err = ended(begin({"00_first": TELLS, "01_second": TELLS}, *given, common=None))
    assert (status, err) == (0, "")
    _, heading, first, drawn, _, second_heading, second, drawn_later = out.splitlines()
    assert (heading, second_heading) == ("== 00_first", "== 01_second")
    assert not {*json.loads(drawn)} & {*json.loads(drawn_later)}
    for name, told in (("00_first", first), ("01_second", second)):
        words = [f"src/{name}.py", "--all-stages", *given]
        by_hand = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert json.loads(told)[0] == words and json.loads(told) == json.loads(by_hand.stdout.splitlines()[0])


@WAYS
def test_a_stage_that_fails_ends_the_run_with_its_status(begin, tmp_path, forks):
    fails = "from radstack.core.errors import UsageError\nfrom radstack.running.cli import run\n" \
            "def main():\n    print('says')\n    raise UsageError('wrong')\nif __name__ == '__main__':\n    run(main)\n"
    run = begin({"00_good": TOUCHES, "01_bad": fails, "02_later": TOUCHES}, forks=forks)
    assert ended(run) == (2, "\n== 00_good\n\n== 01_bad\nsays\n", "error: wrong\n")
    assert [path.name for path in (tmp_path / "src").glob("*.ran")] == ["00_good.ran"]


@WAYS
def test_a_stage_that_is_killed_is_told(begin, tmp_path, forks):
    dies = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    status, out, err = ended(begin({"00_dies": dies, "01_later": TOUCHES}, forks=forks))
    assert (status, out) == (128 + signal.SIGKILL, "\n== 00_dies\n") and not list((tmp_path / "src").glob("*.ran"))
    assert err.startswith("error: 00_dies was ended by signal 9 (Killed); ") and err.count("\n") == 1


@WAYS
@pytest.mark.parametrize("ignored", [True, False], ids=["behind &", "in front"])
def test_ctrl_c_ends_stage_and_run_in_one_line(begin, tmp_path, forks, ignored):
    """Behind the & of a script SIGINT is ignored."""
    answer = signal.SIG_IGN if ignored else signal.SIG_DFL
    run = begin({"00_waits": WAITS, "01_later": TOUCHES}, forks=forks, start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, answer))
    with watchdog():
        assert [run.stdout.readline() for _ in range(3)][-1] == "here\n"
    os.killpg(run.pid, signal.SIGINT)
    assert ended(run) == (130, "", f"{INTERRUPTED}\n") and not list((tmp_path / "src").glob("*.ran"))


@pytest.mark.parametrize("when", ["send()", "os.register_at_fork(after_in_child=send)"], ids=["imports", "fork"])
def test_ctrl_c_amid_imports_or_a_fork_is_a_line_too(begin, tmp_path, when):
    (tmp_path / "src/sends.py").write_text(f"import os, signal; send = lambda: signal.raise_signal(signal.SIGINT); {when}")
    status, out, err = ended(begin({"00_first": TOUCHES, "01_later": TOUCHES}, common=("sends",)))
    assert (status, err) == (130, f"{INTERRUPTED}\n") and out.count("==") == when.startswith("os")
    assert not list((tmp_path / "src").glob("*.ran"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_ends_with_the_run(begin, number):
    """Also before its script has said so itself."""
    waits = "import signal\nprint('here', flush=True)\nsignal.pause()"
    run = begin({"00_waits": waits})
    with watchdog():
        assert [run.stdout.readline() for _ in range(3)][-1] == "here\n"
    run.send_signal(number)
    assert ended(run) == (-number, "", "")


def test_headings_that_nobody_reads_end_nothing(begin, tmp_path):
    ours, theirs = os.pipe()
    os.close(ours)
    run = begin({"00_first": TOUCHES, "01_second": TOUCHES}, stdout=theirs)
    os.close(theirs)
    assert ended(run) == (0, None, "")
    assert len(list((tmp_path / "src").glob("*.ran"))) == 2
