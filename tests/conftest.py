"""What holds for all tests: one thread a process, no waiting for the disk, and the long files first, so that no process is
left alone with one.
"""

import gc
import os
from collections.abc import Iterator

import pytest

# Set before torch and SimpleITK are imported: two test processes of one thread each outrun one of two, and numbers do not
# depend on cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
# Before ray is imported: on a busy machine a node takes longer to start than the 30 s after which Ray gives up.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "600")
os.fsync = lambda handle: None  # no test cuts the power, and some disks take 4 ms for each of ten thousand files


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without the collector of garbage: it walks for two seconds through what imports make, which stays.

    Nor does it walk through that later, between tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """What is frozen at the end would be reported as a leak."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test come first; their order is otherwise kept."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
