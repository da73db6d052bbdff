"""Two runs at once in one folder: who is at work is said, nothing is made twice, nobody removes what another is writing."""

import errno
import fcntl
import functools
import json
import os
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
from events import watchdog

from competitions import load
from radstack.core import lock
from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.files import HOST, replacing, sweep, write_text
from radstack.core.lock import alone, at_work, working_on
from radstack.core.say import saying_to
from radstack.running.cli import make_context
from radstack.running.context import Options, add_variant

HERE = Path(__file__).parent
PATHS = os.pathsep.join(map(str, (HERE, HERE.parent / "src")))
HOLDER = """
import sys
from pathlib import Path
from radstack.core.artifact import Artifact
from radstack.core.files import write_text
path = Path(sys.argv[1])
def build():
    print("at work", flush=True)
    sys.stdin.readline()
    write_text(path, "by the first")
Artifact("01_test", 1, (path,), {}).make(build)
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that is making ``tmp_path / "a" / "x"``, until it gets a line."""
    with watchdog(120), subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "a" / "x")], text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         env={**os.environ, "PYTHONPATH": PATHS}) as other:
        assert other.stdout.readline() == "at work\n"
        yield other
        other.kill()


def never():
    raise AssertionError("the other run has made it")


def test_a_second_run_says_who_is_at_work_and_keeps_what_that_one_made(holder, tmp_path):
    path, lines = tmp_path / "a" / "x", []

    def hear(line):
        lines.append(line)
        print("go on", file=holder.stdin, flush=True)

    with saying_to(hear):
        Artifact("01_test", 1, (path,), {}).make(never)
    assert path.read_text() == "by the first"
    assert f"x: waiting, since process {holder.pid} on " in lines[0] and "is making it" in lines[0]
    assert lines[1] == "kept x: another run has made it"
    assert sorted(one.name for one in path.parent.iterdir()) == ["x", "x.json"]


def test_a_job_that_another_run_finished_since_it_was_announced_is_kept_unless_forced(tmp_path):
    path, lines, made = tmp_path / "a" / "x", [], []
    artifact = Artifact("01_test", 1, (path,), {})
    assert artifact.why() == "new"  # the job is announced
    Artifact("01_test", 1, (path,), {}).make(lambda: write_text(path, "by the first"))
    with saying_to(lines.append):
        artifact.make(never, force=False)
    assert path.read_text() == "by the first" and lines == ["kept x: another run has made it"]
    artifact.make(lambda: made.append(write_text(path, "anew")), force=True)
    assert made and path.read_text() == "anew"


@pytest.mark.parametrize("how", ["killed", "other recipe"])
def test_what_the_first_run_did_not_make_the_second_makes(holder, tmp_path, how):
    path, lines = tmp_path / "a" / "x", []

    def hear(line):
        lines.append(line)
        holder.kill() if how == "killed" else print("go on", file=holder.stdin, flush=True)

    with saying_to(hear):
        Artifact("01_test", 1, (path,), {"more": 1}).make(lambda: write_text(path, "by the second"))
    assert path.read_text() == "by the second" and len(lines) == 1
    assert json.loads((path.parent / "x.json").read_text())["recipe"] == {"more": 1}
    assert not list(path.parent.glob(".*"))


def test_a_lock_that_is_left_behind_keeps_nobody_away(tmp_path):
    (tmp_path / ".x.lock").write_text("process 1 on here")
    with working_on(tmp_path / "x") as waited:
        assert not waited
    assert not list(tmp_path.iterdir())


def test_without_locks_everybody_works(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with working_on(tmp_path / "x") as waited:
        assert not waited


class Windows:
    """Its module ``msvcrt``, where a byte of an open file is locked and nobody may wait for ever."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self) -> None:
        self.places: list[int] = []

    def locking(self, handle: int, mode: int, count: int) -> None:
        self.places.append(os.lseek(handle, 0, os.SEEK_CUR))
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if mode == self.LK_NBLCK else fcntl.LOCK_UN)
        except BlockingIOError as error:
            raise PermissionError(13, "Permission denied") from error


def test_windows_has_locks_of_its_own(holder, tmp_path, monkeypatch):
    path, lines, windows = tmp_path / "a" / "x", [], Windows()
    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setattr(lock, "msvcrt", windows)
    monkeypatch.setattr(lock, "LOOK_SECONDS", 0)
    with pytest.raises(UserError, match=f"another run is writing .*: process {holder.pid} on "), alone(path):
        pass
    assert at_work([path.with_name(".x.lock")])

    def hear(line):
        lines.append(line)
        print("go on", file=holder.stdin, flush=True)

    with saying_to(hear):
        Artifact("01_test", 1, (path,), {}).make(never)
    assert f"x: waiting, since process {holder.pid} on " in lines[0] and path.read_text() == "by the first"
    with working_on(path):  # and it is free again
        assert set(windows.places) == {lock.FAR} and not at_work([path.with_name(".y.lock")])
    assert sorted(one.name for one in path.parent.iterdir()) == ["x", "x.json"]


def test_a_lock_may_be_written_by_everybody_whatever_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        with working_on(tmp_path / "x"):
            assert (tmp_path / ".x.lock").stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


@pytest.mark.parametrize("why", ["no module", errno.ENOLCK, errno.EBADF])
def test_where_there_are_no_locks_it_is_said_once(tmp_path, monkeypatch, why):
    def flock(*_):
        raise OSError(why, "No locks available")

    monkeypatch.setattr(lock, "_say_that_there_are_none", functools.cache(lock._say_that_there_are_none.__wrapped__))
    if why == "no module":
        monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setattr("fcntl.flock", flock)
    lines = []
    with saying_to(lines.append):
        for _ in range(2):
            with working_on(tmp_path / "x") as waited:
                assert not waited
    assert len(lines) == 1 and "two runs at once in one folder are not kept apart" in lines[0]


def test_what_another_run_is_writing_stays(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with replacing(tmp_path / "a.npy") as part:
        part.write_text("half")
        gone = [tmp_path / f".x.npy.{child.pid}@{HOST}.part", tmp_path / f".x.npy.{child.pid}.part",
                tmp_path / ".old.npy.1@elsewhere.part"]
        alive = [tmp_path / f".y.npy.{os.getpid()}.part", tmp_path / ".z.npy.1@elsewhere.part", part]
        for path in (*gone, *alive):
            path.write_text("half")
        os.utime(gone[2], (1, 1))
        sweep(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted(alive)


NAMES = "abcdef"


def add(place, name, barrier):
    context = make_context(load("ich", True), Options(out_dir=str(place), data_dir=str(place)))
    barrier.wait()
    add_variant(context, "resnet", name, {"optim__lr": 0.1})


def test_of_six_variants_named_at_once_none_is_lost(tmp_path):
    load("ich", True)  # once, not in each process
    fork = get_context("fork")
    barrier = fork.Barrier(len(NAMES))
    runs = [fork.Process(target=add, args=(tmp_path, name, barrier)) for name in NAMES]
    with watchdog(120):
        for run in runs:
            run.start()
        for run in runs:
            run.join()
    assert [run.exitcode for run in runs] == [0] * len(NAMES)
    assert set(json.loads((tmp_path / "weights" / "ich-demo" / "variants.json").read_text())) == set(NAMES)
