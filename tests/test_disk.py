"""Full, read-only and foreign disks: each in one line that says what helps, and what was there stays."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scripts import run_script

from radstack.core.disk import disk_error, size_in_words
from radstack.core.errors import UserError
from radstack.core.files import need_disk, new_array, replacing, write_text
from radstack.core.lock import working_on
from radstack.core.progress import Log
from radstack.images.shards import write_shard
from radstack.stages.train import write_weights
from radstack.training import checkpoint

SIZE = 1 << 20


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A disk of one megabyte."""
    place = tmp_path_factory.mktemp("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def long_shard(path):
    write_shard(path, [lambda: np.zeros((1000, 1000), np.int16)] * 2, (1000, 1000))


WRITERS = {"shard": long_shard, "text": lambda path: write_text(path, "x" * 2 * SIZE),
           "weights": lambda path: write_weights(path, {"a": torch.zeros(SIZE)}),
           "checkpoint": lambda path: checkpoint.save(path, {"a": torch.zeros(SIZE)})}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_one_line_with_the_option_that_helps(small, kind):
    path = small / "weights" / "ich" / "fold0"
    write_text(path, "old")
    with pytest.raises(UserError) as caught:
        WRITERS[kind](path)
    said = str(caught.value)
    assert said.startswith(f"cannot write {path}: No space left on device; ") and "\n" not in said
    assert "free some disk" in said and "point --out-dir at another folder" in said and " free: " in said
    assert kind != "shard" or "it needs 4.0 MB, " in said
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_figures_on_a_full_disk_are_one_line_of_the_run_itself_and_no_thread_fails(small):
    (small / "log").mkdir()
    log = Log(small / "log")
    threads = threading.active_count()
    with pytest.raises(OSError), (small / "rest").open("wb", buffering=0) as rest:
        while True:
            rest.write(bytes(4096))
    with pytest.raises(UserError, match=r"figures.csv: No space left on device; .*free some disk"):
        for step in range(1000):
            log.write(step, {"loss": 1.0})
    assert threading.active_count() == threads
    (small / "rest").unlink()


def test_what_a_library_wraps_in_its_own_text_is_told_as_the_system_said_it(tmp_path):
    """As pydicom does: the type of the error, a text of several lines, no number."""
    with pytest.raises(UserError) as caught, replacing(tmp_path / "a.dcm"):
        raise OSError("With tag (7FE0,0010) got exception: [Errno 28] No space left on device\nTraceback:\n  a.py, line 1")
    assert str(caught.value).startswith(f"cannot write {tmp_path / 'a.dcm'}: No space left on device; ")
    assert "\n" not in str(caught.value)


def test_a_map_takes_its_disk_before_it_is_written_to(small, tmp_path):
    with pytest.raises(OSError, match="No space left"):
        new_array(small / "a.npy", "int16", (SIZE,))
    (small / "a.npy").unlink()
    array = new_array(tmp_path / "a.npy", "int16", (SIZE,))
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 2 * SIZE and not array.any()


def test_where_the_system_cannot_reserve_zeros_are_written(tmp_path, monkeypatch):
    def cannot(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    array = new_array(tmp_path / "a.npy", "int16", (3, 700_001))
    array[2] = 7
    array.flush()
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= array.nbytes
    assert np.array_equal(np.load(tmp_path / "a.npy"), array) and array[:2].max() == 0


ANSWERS = [(errno.EDQUOT, "your quota is used up: free some disk"), (errno.EROFS, "can only be read: point --data-dir"),
           (errno.EACCES, "you may not write into .* of .*: ask for the right to, or point --data-dir"),
           (errno.EIO, "check the disk and run the same command again"), (errno.EMFILE, "ulimit -n")]


@pytest.mark.parametrize(("number", "advice"), ANSWERS)
def test_failures_are_told_apart(tmp_path, number, advice):
    with pytest.raises(UserError, match=advice) as caught, replacing(tmp_path / "input" / "ich" / "a", 10) as part:
        part.write_text("half")
        raise OSError(number, os.strerror(number))
    assert ("free some disk" in str(caught.value)) == (number == errno.EDQUOT)


def test_another_file_that_cannot_be_read_is_the_one_that_is_named(tmp_path):
    named = r"^cannot read .*input/b\.dcm: Permission denied; ask its owner"
    with pytest.raises(UserError, match=named), replacing(tmp_path / "cache" / "a"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "input" / "b.dcm"))
    assert disk_error(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    assert disk_error(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None


def test_errors_of_other_kinds_pass(tmp_path):
    for error in (ValueError("no such column"), UserError("mine: Permission denied")):
        with pytest.raises(type(error), match=str(error)), replacing(tmp_path / "a"):
            raise error


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_modes_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_weights(tmp_path / "a.safetensors", {"a": torch.zeros(3)})
        write_text(tmp_path / "b", "x")
        checkpoint.save(tmp_path / "c", {"a": torch.zeros(SIZE)})
        pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "d")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~mask}


def test_what_is_private_stays_so(tmp_path):
    with replacing(tmp_path / "key", private=True) as part:
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
        part.write_text("secret")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_sizes_in_words():
    assert [size_in_words(one) for one in (2.5e12, 20e6, 3000)] == ["2,500.0 GB", "20.0 MB", "3 kB"]
    with pytest.raises(UserError, match=r"point --out-dir at another folder"):
        need_disk(Path("cache"), 10**18, "03_cache")


def test_an_output_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "folds").write_text("")
    for use in (lambda path: write_text(path, "x"), lambda path: working_on(path).__enter__()):
        with pytest.raises(UserError, match=r"folds is a file and no folder: rename it, or point --out-dir"):
            use(tmp_path / "folds" / "ich" / "a.csv")


NOBODY = 65534


@pytest.fixture
def open_to_all():
    """A folder that others may enter; those of pytest are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_foreign_folder_and_an_unreadable_table_are_one_line_each(open_to_all):
    if os.getuid():
        pytest.skip("only root can become another person")
    tmp_path = open_to_all
    (tmp_path / "input" / "x").mkdir(parents=True)
    secret = tmp_path / "input" / "x" / "labels.csv"
    secret.write_text("a\n1\n")
    secret.chmod(0o600)
    table = tmp_path / "oof.parquet"
    warm = tmp_path / "warm.parquet"
    for path in (table, warm):
        pd.DataFrame({"a": [1]}).to_parquet(path)
    table.chmod(0o600)
    code = ("import os\n"
            "from pathlib import Path\n"
            "from radstack.running.cli import run\n"
            "from radstack.core.files import read_table, read_text_table, write_text\n"
            "from radstack.core.artifact import content_hash\n"
            # What libraries import late they may find in a folder that only root can read.
            f"write_text(Path({str(tmp_path / 'a.csv')!r}), 'a')\n"
            f"read_text_table(Path({str(tmp_path / 'a.csv')!r}), ())\n"
            f"read_table(Path({str(warm)!r}), '')\n"
            f"os.setuid({NOBODY})\n"
            "{}")
    tried = {f"run(lambda: write_text(Path({str(tmp_path / 'oof' / 'a')!r}), 'x'))": "you may not write into ",
             f"run(lambda: read_text_table(Path({str(secret)!r}), ()))": "cannot read ",
             f"run(lambda: content_hash(Path({str(secret)!r})))": "chmod a+r",
             f"run(lambda: read_table(Path({str(table)!r}), ''))": f"cannot read {table}: Permission denied"}
    for line, words in tried.items():
        done = subprocess.run([sys.executable, "-c", code.format(line)], capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src"), "HOME": "/"})
        assert done.returncode == 1 and done.stderr.startswith("error: ") and words in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_dry_run_writes_nothing(tmp_path):
    (tmp_path / "input" / "ich-demo").mkdir(parents=True)
    said = {"00_get_data": "would draw 224 series into ", "01_make_folds": "would make ich-demo/folds.csv: ",
            "04_train": "would make train resnet fold 0: ", "07_stack": "would make final/fold0.parquet: "}
    for script, words in said.items():
        done = run_script(script, "ich", "--demo", "--dry-run", "--data-dir", tmp_path, "--out-dir", tmp_path)
        assert done.returncode == 0 and words in done.stdout and not done.stderr, done
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["input", "input/ich-demo"]
