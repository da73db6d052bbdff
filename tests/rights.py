"""Files that cannot be read for a while, whoever runs the tests."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

READ_ANYTHING = 0b110
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (capabilities(7)), by which root reads what nobody may."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Take away all rights to ``path`` in the block, from this thread; root gives up the privilege of reading anything."""
    if not sys.platform.startswith("linux"):
        pytest.skip("capabilities are Linux's")
    libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    kept, mode = sets[0], path.stat().st_mode
    try:
        path.chmod(0)
        sets[0] = kept & ~READ_ANYTHING
        assert libc.capset(header, sets) == 0
        yield
    finally:
        sets[0] = kept
        libc.capset(header, sets)
        path.chmod(mode)
