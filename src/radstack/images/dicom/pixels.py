"""Stored pixel values of a one-frame gray DICOM file, as pydicom would give them."""

import warnings
from pathlib import Path

import numpy as np
import pydicom

from radstack.images.dicom.header import EXPLICIT, IMPLICIT, Header, Unreadable, ask_pydicom, fault, walk


def read_stored(path: Path | str) -> tuple[np.ndarray, Header]:
    """Read the stored values of ``path``: [rows, columns], uint16, or int16 for two's complement; and its header.

    Plain 16-bit little-endian files are a view (read-only) of the bytes read; the rest is decoded by pydicom with
    pylibjpeg and gdcm. The values are those of ``pydicom.dcmread(path).pixel_array`` bit for bit, in whatever way
    they were reached. MONOCHROME1 is *not* inverted here: the rescale of a CT holds whatever the polarity of the
    display (PS3.3 C.7.6.3.1.2), and a radiograph is turned around with :func:`invert`. Raises nothing but Unreadable.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (twice as fast as Path.open on small files)
            data = file.read()
    except (OSError, ValueError) as error:
        raise Unreadable("no-access", str(error)) from error
    header = walk(data, len(data))
    plain = header is not None
    header = header or ask_pydicom(path, len(data))
    if found := fault(header):
        raise found
    return (_view(data, header) if plain and _is_plain(header) else _decode(path)), header


def invert(stored: np.ndarray, header: Header) -> np.ndarray:
    """Turn stored values around within their bits, so that MONOCHROME1 reads like MONOCHROME2: brighter is denser.

    Unsigned values v become ``2^bits - 1 - v``, signed ones ``-1 - v``: the lowest and the highest trade places.
    Apply it to radiographs with ``header.photometric == "MONOCHROME1"``. Same shape and dtype.
    """
    top = -1 if header.pixel_representation else (1 << header.bits_stored) - 1
    return np.asarray(top - stored.astype(np.int32), dtype=stored.dtype)


def _is_plain(header: Header) -> bool:
    """Whether the bytes of PixelData are the 16-bit picture itself."""
    return (header.transfer_syntax in (EXPLICIT, IMPLICIT) and header.bits_allocated == 16
            and 1 <= header.bits_stored <= 16 and header.pixel_representation in (0, 1))


def _view(data: bytes, header: Header) -> np.ndarray:
    """PixelData as a picture; bits above BitsStored are cleared, or filled with the sign, only if any is set."""
    dtype = "<i2" if header.pixel_representation else "<u2"
    count = header.rows * header.columns
    stored = np.frombuffer(data, dtype, count, header.pixel_offset).reshape(header.rows, header.columns)
    spare = 16 - header.bits_stored
    if spare and (header.pixel_representation or int(stored.max()) >> header.bits_stored):
        stored = (stored << spare) >> spare
    return stored


def _decode(path: Path | str) -> np.ndarray:
    """Let pydicom and its plugins decode the picture; ``not-gray`` is what is not one 8- or 16-bit gray frame."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = pydicom.dcmread(path).pixel_array
    except Exception as error:  # decoders raise what they like on broken streams
        raise Unreadable("undecodable", f"{type(error).__name__}: {error}") from error
    if stored.ndim != 2 or stored.dtype.itemsize > 2:
        raise Unreadable("not-gray", f"decoded to {stored.dtype} {stored.shape}")
    return stored.astype(np.int16 if stored.dtype.kind == "i" else np.uint16, copy=False)
