"""Few open files, few cores: what is allowed is asked of the system, and kept to."""

import os
import pickle
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from radstack.core import limits
from radstack.core.limits import cores, open_files, share_threads
from radstack.images.shards import Shards, shard_path, write_shard
from radstack.training import distributed

SRC = Path(__file__).parents[1] / "src"
MANY = 150
"""Shards, more than the files that may be open."""

LOOK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
from pathlib import Path
from radstack.images.shards import Shards
shards = Shards(Path(sys.argv[1]))
for _ in range(2):
    assert [int(shards(number, 0)[0, 0]) for number in range(150)] == list(range(150))
print("all", len(shards._maps))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("shards")
    for number in range(MANY):
        write_shard(shard_path(place, number), [lambda number=number: np.full((2, 2), number, np.int16)], (2, 2))
    return place


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_more_shards_than_files_may_be_open(folder):
    done = subprocess.run([sys.executable, "-c", LOOK, folder], env={**os.environ, "PYTHONPATH": str(SRC)},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["all", str(100 - limits.SPARE_FILES)]


def test_the_shard_that_was_used_longest_ago_closes_first(folder, monkeypatch):
    monkeypatch.setattr("radstack.images.shards.open_files", lambda: 2)
    shards = Shards(folder)
    for number in (0, 1, 0, 2):
        assert shards(number, 0)[0, 0] == number
    assert list(shards._maps) == [0, 2]
    kept = shards(1, 0)
    assert list(shards._maps) == [2, 1] and kept[0, 0] == 1
    copy = pickle.loads(pickle.dumps(shards))
    assert copy._maps == {} and copy(3, 0)[0, 0] == 3


def test_the_limit_of_open_files_is_raised_as_far_as_is_allowed():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        most = limits.ENOUGH_FILES
        assert open_files() == min(before[1] if before[1] > 0 else most, most) - limits.SPARE_FILES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no process")
def test_cores_are_those_that_taskset_leaves(tmp_path):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("files, own, expected", [
    ({"cpu.max": "200000 100000"}, "0::/", 2), ({"cpu.max": "max 100000"}, "0::/", 8), ({}, "", 8),
    ({"cpu.max": "max 100000", "pod/cpu.max": "350000 100000", "pod/box/cpu.max": "max 100000"}, "0::/pod/box", 3),
    ({"cpu.max": "50000 100000"}, "0::/", 1), ({"cpu.max": "broken"}, "0::/", 8),
    ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/docker/abc", 3),
    ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/", 8),
])  # fmt: skip
def test_cores_are_those_that_a_container_has_time_for(tmp_path, monkeypatch, files, own, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "own").write_text(own + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert cores(tmp_path, tmp_path / "own") == expected


def test_libraries_start_no_more_threads_than_there_are_cores(monkeypatch):
    monkeypatch.setattr(limits, "cores", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for name in (limits.THREADS, limits.OURS):
        monkeypatch.setenv(name, "")  # so that it is put back at the end
        monkeypatch.delenv(name)
    monkeypatch.setattr(distributed, "cores", lambda: 6)
    share_threads()
    assert os.environ["OMP_NUM_THREADS"] == "1" and distributed._environment(2)["OMP_NUM_THREADS"] == "3"
    monkeypatch.delenv(limits.OURS)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")  # somebody's own choice
    share_threads()
    assert os.environ["OMP_NUM_THREADS"] == distributed._environment(2)["OMP_NUM_THREADS"] == "4"


def test_nobody_counts_the_cores_of_the_whole_machine():
    for path in (SRC / "radstack").rglob("*.py"):
        assert "os.cpu_count" not in path.read_text("utf-8") or path.name in ("limits.py", "environment.py"), path


@pytest.mark.parametrize("call, megabytes", [("keep_memory()", 1), ("keep_memory(STEPS)", 24),
                                             ("keep_memory(STEPS); keep_memory()", 24)])
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other rules")
def test_memory_of_one_picture_or_step_is_kept_for_the_next(call: str, megabytes: int) -> None:
    """Counted in pages that the system had to give: an array of a megabyte has 256 of them."""
    code = f"""
import resource, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from radstack.core.limits import STEPS, keep_memory
def pages():
    pictures = [np.ones({megabytes} << 20, np.uint8) for _ in range(4)]
    del pictures
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        pictures = [np.ones({megabytes} << 20, np.uint8) for _ in range(4)]
        del pictures
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
plain = pages()
{call}
print(plain, pages())
"""
    plain, kept = map(int, subprocess.run([sys.executable, "-c", code, str(SRC)], capture_output=True, text=True,
                                          check=True).stdout.split())
    assert plain > 10_000 and kept < 1_000
