"""Where shared memory cannot be written, pictures are read all the same, and it is said once what that means."""

import sys
from pathlib import Path

import pytest
from scripts import run_script

from radstack.commands import environment

PROGRAM = '''
import ctypes, os, sys
sys.path.insert(0, {src!r})
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 0x44000, None) or (  # CLONE_NEWNS; MS_REC, MS_PRIVATE
        libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", {flags}, None)):
    sys.exit(77)
import numpy as np
from radstack.training.loader import Pictures, loader, plain_batches
labels, columns = np.zeros((9, 1), np.float32), np.zeros((9, 0), np.float32)
pictures = Pictures(lambda row: np.full((2, 2, 3), row, np.uint8), labels, columns)
for _ in range(2):
    print([batch.images.float().mean().item() for batch in loader(pictures, plain_batches(np.arange(9), 3), 2, False)])
print(os.access("/dev/shm", os.W_OK))
'''
READ_ONLY = 1
"""MS_RDONLY of mount(2)."""


@pytest.mark.parametrize("flags", [0, READ_ONLY])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts of one process alone are Linux's")
def test_pictures_are_read_without_shared_memory(tmp_path, flags):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(src=str(Path(__file__).parents[1] / "src"), flags=flags))
    done = run_script(program)
    if done.returncode == 77:
        pytest.skip("only root may mount")
    said = done.stdout.splitlines()
    words = [line for line in said if "shared memory cannot be written" in line]
    assert done.returncode == 0, done.stderr
    assert [line for line in said if line not in words] == ["[1.0, 4.0, 7.0]"] * 2 + [str(not flags)]
    assert len(words) == (1 if flags else 0)


def test_the_doctor_says_that_it_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(environment.os, "access", lambda *_: False)
    check, = environment.shared_memory(tmp_path)
    assert check.state == environment.WARN and "cannot be written" in check.words
