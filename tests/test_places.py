"""Places where a run may happen: a dumb terminal, one of no width or of ASCII alone, a notebook, a shell without tools."""

import errno
import fcntl
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from dicom_files import make_dicom, noise

from radstack.commands.environment import OK, memory
from radstack.core import progress
from radstack.core.files import write_text
from radstack.core.progress import Bar, OneOutput, Track, titled, track
from radstack.core.say import spell_out
from radstack.images.dicom import read_stored
from radstack.images.unreadable import read_start

ROOT = Path(__file__).parents[1]


def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard output and error of a person who looks on."""
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    for name, value in (("TERM", "xterm"), ("COLUMNS", "100"), ("LINES", "40")):
        monkeypatch.setenv(name, value)
    return stream


@pytest.mark.parametrize("name, value, kind", [("TERM", "xterm", Bar), ("TERM", "dumb", Track), ("TERM", "unknown", Track),
                                               ("COLUMNS", "20", Track), ("COLUMNS", "100", Bar)])
def test_a_bar_is_drawn_where_it_can_be(monkeypatch, name, value, kind):
    terminal(monkeypatch)
    monkeypatch.setenv(name, value)
    assert type(track(3, "steps")) is kind


def test_columns_of_0_are_none_said(monkeypatch):
    screen = terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))
    with track(2, "steps") as steps:
        steps.step(2)
    assert "steps" in screen.getvalue() and "2/2" in screen.getvalue()


class Shown:
    """An output of a notebook that can be written over."""

    def __init__(self, outputs: list[str]) -> None:
        self.outputs = outputs

    def update(self, data: dict[str, str], raw: bool) -> None:
        self.outputs[-1] = data["text/plain"]


def test_a_notebook_stores_one_output_for_a_stage(monkeypatch, capsys):
    outputs: list[str] = []

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Shown:
        assert raw and display_id
        outputs.append(data["text/plain"])
        return Shown(outputs)

    kernel: Any = ModuleType("IPython.display")
    kernel.display = display
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython.display", kernel)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with titled("train a fold 0"), track(50, "epochs") as steps:
        assert type(steps) is OneOutput
        for _ in range(50):
            steps.step(loss=0.5)
    assert len(outputs) == 1 and outputs[0].startswith("train a fold 0: epochs: 50/50, done after 0:0")
    assert capsys.readouterr().out == ""
    with track(3, "elsewhere", report=[].append) as others:  # lines that were asked for are lines
        assert type(others) is Track


def test_signs_that_a_terminal_lacks_are_spelled_out(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict"))
    with pytest.raises(UnicodeEncodeError):
        print("0.5 \N{PLUS-MINUS SIGN} 0.1")
    spell_out()
    print("0.5 \N{PLUS-MINUS SIGN} 0.1")
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue() == b"0.5 \\xb1 0.1\n"  # type: ignore[attr-defined]


def test_every_script_spells_signs_out():
    program = "from radstack.running.cli import run; run(lambda: print('\\u2264 \\xb1'))"
    place = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=place, capture_output=True, check=False)
    assert done.returncode == 0 and done.stdout == b"\\u2264 \\xb1\n", done.stderr


def test_what_windows_lacks_is_done_another_way(tmp_path, monkeypatch):
    """There nothing is read at a place of a file, and what is open for reading alone is not synced."""
    synced = []

    def fsync(handle: int) -> None:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        synced.append(handle)

    for name in ("pread", "pwrite", "posix_fallocate", "sysconf"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a", "abcdef")
    assert len(synced) == 1 and (tmp_path / "a").read_text() == "abcdef"
    assert read_start(tmp_path / "a", 3) == (b"abc", 6)
    slice_ = make_dicom(tmp_path / "b.dcm", noise())
    assert read_stored(slice_)[0].shape == noise().shape
    assert memory().state == OK


def digest_with(folder: Path, *tools: str) -> str:
    """What setup.sh takes for the lock's digest where the shell has only ``tools`` and Python."""
    folder.mkdir()
    for tool in tools:
        (folder / tool).symlink_to(shutil.which(tool))
    function = (ROOT / "setup.sh").read_text().split("digest() {")[1].split("\n}\n")[0]
    script = f"lock=requirements.txt\ndigest() {{{function}\n}}\ndigest"
    done = subprocess.run([shutil.which("bash") or "bash", "-euc", script], cwd=ROOT,
                          env={"PATH": str(folder), "PYTHON": sys.executable}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="nothing to compare with")
def test_the_lock_has_its_digest_without_sha256sum(tmp_path):
    known = digest_with(tmp_path / "linux", "sha256sum")
    assert digest_with(tmp_path / "bare") == known and len(known.split()[0]) == 64
    if shutil.which("shasum") and shutil.which("perl"):
        assert digest_with(tmp_path / "macos", "shasum", "perl", "env") == known


@pytest.mark.parametrize("given, first", [
    (["ich", "--demo", "--jobs=2"], ["ich", "--demo", "--jobs=2"]), (["--jobs=2"], ["ich", "--demo", "--jobs=2"]),
    ([], ["ich", "--demo"]), (["bone_age", "--set=folds.count=4", "--push", "two words"],) * 2,
])  # fmt: skip
def test_run_all_hands_all_stages_and_every_option_to_one_program(tmp_path, given, first):
    """In whose place is one that says what it was called with, and what it ignores."""
    shutil.copy(ROOT / "run_all.sh", tmp_path)
    (tmp_path / "setup.sh").write_text('PATH="$PWD:$PATH"\n')
    (tmp_path / "python").write_text("#!/usr/bin/env bash\nprintf '%s\\0' \"$@\" \"$(trap -p HUP PIPE INT TERM)\"\n")
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run(["bash", str(tmp_path / "run_all.sh"), *given], capture_output=True, text=True, check=True)
    program, stages, *rest, ignores, _ = done.stdout.split("\0")
    assert program == "src/all_stages.py" and (ROOT / program).exists() and rest == first
    assert stages.split() == [path.stem for path in sorted((ROOT / "src").glob("0[0-9]_*.py"))]
    assert ignores == "trap -- '' SIGHUP\ntrap -- '' SIGPIPE"
