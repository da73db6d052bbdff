"""Files as pydicom reads their headers: bounded in what is read and inflated, and with a note of where they end."""

import os
import zlib
from collections.abc import Callable

from radstack.images.unreadable import Unreadable

HEADER_LIMIT = 64 << 20
"""Bytes of a header that are read at most; icons, overlays and private blobs of a few megabytes are known."""
PIECE = 1 << 16


class Deflated(Exception):
    """The data set that starts at byte ``at`` is deflated (PS3.5 annex A.5)."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


class Source:
    """What pydicom needs of a file, over ``get(at, count)``, which gives fewer bytes only at the end.

    ``cut`` says after a failure, or without PixelData, whether the last thing that was wanted lies behind the end.
    """

    def __init__(self, get: Callable[[int, int], bytes]) -> None:
        self._get, self._at, self._read, self.cut = get, 0, 0, False

    def read(self, count: int = -1) -> bytes:
        """Up to ``count`` bytes. A read of everything is how pydicom begins with a deflated data set: :class:`Deflated`."""
        if count < 0:
            raise Deflated(self._at)
        # Asked for as much as the limit allows: a damaged length must not become an allocation.
        data = self._get(self._at, min(count, HEADER_LIMIT))
        self._read += len(data)
        if self._read > HEADER_LIMIT:
            raise Unreadable("bad-header", f"more than {HEADER_LIMIT >> 20} MB come before the pixels")
        # An element's tag and length are eight bytes; none at all is the regular end of a data set.
        self.cut = len(data) < count and (bool(data) or count != 8 or not self._ends_here())
        self._at += len(data)
        return data

    def _ends_here(self) -> bool:
        """Whether the file ends where we are, and not before: a value that was skipped may reach behind the end."""
        return self._at == 0 or bool(self._get(self._at - 1, 1))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to ``offset``, from the beginning or from here."""
        self._at = offset + (self._at if whence == os.SEEK_CUR else 0)
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at


class Inflating:
    """A deflated data set, inflated no further than is asked for: a few bytes can stand for gigabytes."""

    def __init__(self, get: Callable[[int, int], bytes], at: int) -> None:
        self._get, self._from, self._inflater, self._done = get, at, zlib.decompressobj(-zlib.MAX_WBITS), bytearray()

    def __call__(self, at: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``at``; fewer where the data set ends. zlib.error where it is damaged."""
        if at > HEADER_LIMIT:
            raise Unreadable("bad-header", f"inflated, more than {HEADER_LIMIT >> 20} MB come before the pixels")
        while len(self._done) < at + count and not self._inflater.eof and self._grow():
            pass
        return bytes(self._done[at:at + count])

    def _grow(self) -> bool:
        data = self._inflater.unconsumed_tail
        if not data:
            data = self._get(self._from, PIECE)
            self._from += len(data)
        self._done += self._inflater.decompress(data, 16 * PIECE)
        return bool(data)
