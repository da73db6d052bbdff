"""DICOM files: header and stored pixels, by a short walker where they are plain (``walker``), else by pydicom."""

import struct
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from radstack.images.dicom import stream
from radstack.images.dicom.decoder import decode
from radstack.images.dicom.header import FAULTY, FIELDS, OPTIONAL, Header, bare, from_bytes, make_header
from radstack.images.dicom.source import Deflated, Inflating, Source
from radstack.images.dicom.walker import EXPLICIT, IMPLICIT, PIXEL_DATA, UNDEFINED, walk
from radstack.images.unreadable import Unreadable, opened, read_at, read_start

if TYPE_CHECKING:
    import pydicom  # a third of a second to import, and stages that find nothing to do must end at once

TRANSFER_SYNTAX = 0x00020010
CHARSET = 0x00080005
HEAD_BYTES = 4096  # Read at once for a header; those of the RSNA 2019 archive end before byte 700
DEFLATED = "1.2.840.10008.1.2.1.99"  # Deflated explicit VR little endian
BIG_ENDIAN = "1.2.840.10008.1.2.2"  # Explicit VR big endian
GUESSED = {(True, True): IMPLICIT, (False, True): EXPLICIT, (False, False): BIG_ENDIAN}
"""Implicit, little endian: transfer syntax of a file that names none and is not compressed."""
NATIVE = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)
"""Transfer syntaxes whose pixels are not compressed picture by picture."""
WHOLE = 32 << 20
"""Bytes up to which a file is read at once; of a longer one, the header first, then the pixels alone."""
FACTS = ("transfer_syntax", "rows", "columns", "bits_allocated", "bits_stored", "pixel_representation", "photometric")
"""Fields of :class:`Header` that a decoder needs."""


def read_header(path: Path | str) -> Header:
    """Read the header of ``path``.

    Unreadable as ``no-access``, ``not-a-file``, ``empty``, ``not-dicom``, ``truncated`` (the file ends within the header)
    or ``bad-header``. Whether the pixels are all there and can be decoded is asked of :func:`fault`.
    """
    head, size = read_start(path, HEAD_BYTES)
    return walk(head, size) or ask_pydicom(path, size)


def ask_pydicom(path: Path | str, size: int) -> Header:
    """Read the header with pydicom, stopping before the pixels.

    Unreadable as ``not-dicom``, ``truncated`` or ``bad-header``.
    """
    with opened(path) as (handle, _):
        return _parsed(lambda at, count: read_at(handle, count, at), size)[0]


def _parsed(get: Callable[[int, int], bytes], size: int) -> tuple[Header, Callable[[int, int], bytes]]:
    """The header of the file of which ``get(at, count)`` gives bytes, and where its pixels are read by offset."""
    import pydicom
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_dataset

    source, headless = Source(get), _is_headless(get(0, 132))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset: pydicom.Dataset
            try:
                dataset = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=list(FIELDS), force=headless)
                syntax, order = str(dataset.file_meta.get("TransferSyntaxUID", "")), dataset.original_encoding
            except Deflated as found:
                get = Inflating(get, found.at)
                source, syntax, order = Source(get), DEFLATED, (False, True)
                dataset = read_dataset(cast(BinaryIO, source), False, True, stop_when=_at_pixels, specific_tags=list(FIELDS))
            values = {name: _tried(dataset, tag) for tag, (name, _) in FIELDS.items() if tag != TRANSFER_SYNTAX}
        place = _pixel_place(order, source.tell(), get(source.tell(), 12))
        if headless and not (values["sop"] or values["rows"]):
            raise InvalidDicomError
        if not syntax and place["pixel_length"] != UNDEFINED:
            syntax = GUESSED.get((bool(order[0]), bool(order[1])), "")
        if source.cut and not place["pixel_length"]:
            raise Unreadable("truncated", f"the file ends within its header, after {size} bytes")
        return make_header(values | {"transfer_syntax": syntax}, **place, size=size), get
    except (Unreadable, MemoryError):
        raise
    except InvalidDicomError as error:
        raise Unreadable("not-dicom", "no DICM mark at byte 128") from error
    except zlib.error as error:
        raise Unreadable("undecodable", f"the deflated data set is damaged ({error})") from error
    except Exception as error:  # pydicom meets broken bytes with whatever the parsing step happened to raise
        raise Unreadable("truncated" if source.cut else "bad-header", f"{type(error).__name__}: {error}") from error


def _is_headless(start: bytes) -> bool:
    """Whether a file without a mark may still be DICOM: it begins with an element of group 2 or 8, as data sets do."""
    group, element = struct.unpack("<HH", start[:4].ljust(4, b"\xff"))
    return start[128:132] != b"DICM" and group in (2, 8) and element < 0x100


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return tag >= PIXEL_DATA


def _tried(dataset: "pydicom.Dataset", tag: int) -> Any:
    """:func:`_value`; ``FAULTY`` where a field of ``OPTIONAL`` does not parse."""
    try:
        return _value(dataset, tag)
    except Exception as error:  # as in _parsed
        if FIELDS[tag][0] not in OPTIONAL or isinstance(error, MemoryError):
            raise
        return FAULTY


def _value(dataset: "pydicom.Dataset", tag: int) -> Any:
    """One field of a pydicom data set in the types of :func:`from_bytes`."""
    from pydicom.dataelem import RawDataElement
    from pydicom.multival import MultiValue

    if tag not in dataset:
        return None
    name, (vr, *_) = FIELDS[tag]
    if vr == b"LO" and isinstance(item := dataset.get_item(tag), RawDataElement):
        return from_bytes(name, vr, item.value or b"", _value(dataset, CHARSET) or "")
    value = dataset[tag].value
    if value in (None, ""):
        return None
    if vr in (b"DS", b"IS"):
        return tuple(map(float, value)) if isinstance(value, (list, MultiValue)) else (float(value),)
    if vr == b"US":
        return int(value)
    return bare("\\".join(map(str, value)) if isinstance(value, (list, MultiValue)) else str(value))


def _pixel_place(encoding: tuple[bool | None, bool | None], at: int, element: bytes) -> dict[str, int]:
    """Offset and declared length of PixelData from the 12 bytes at which pydicom stopped; ``encoding``: implicit, little."""
    implicit, little = encoding
    order = "<" if little else ">"
    if len(element) < 12 or struct.unpack(order + "HH", element[:4]) != (PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF):
        return {"pixel_offset": 0, "pixel_length": 0}
    if not implicit and element[4:6] not in (b"OB", b"OW", b"UN"):
        raise Unreadable("bad-header", f"PixelData has the value representation {element[4:6]!r}")
    length = struct.unpack(order + "I", element[4:8] if implicit else element[8:12])[0]
    return {"pixel_offset": at + (8 if implicit else 12), "pixel_length": length}


def fault(header: Header) -> Unreadable | None:
    """What keeps the pixels of a well-formed header from being read, as far as the header and the file size tell.

    None, or ``no-pixels``, ``bad-header``, ``unsupported-transfer-syntax``, ``multi-frame``, ``not-gray``, ``wrong-size``
    (the declared length is not that of the picture) or ``truncated`` (the file ends before the declared length).
    """
    if not header.pixel_length:
        return Unreadable("no-pixels", "the header has no PixelData after it")
    for name in ("rows", "columns", "bits_allocated", "bits_stored", "photometric", "transfer_syntax"):
        if not getattr(header, name):
            return Unreadable("bad-header", f"{name} is missing")
    if header.pixel_representation not in (0, 1):
        return Unreadable("bad-header", "pixel_representation is missing or neither 0 nor 1")
    if not decodable(header.transfer_syntax):
        return _no_decoder(header.transfer_syntax)
    if header.frames != 1:
        return Unreadable("multi-frame", f"{header.frames} frames; split it into files of one")
    if header.samples != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return Unreadable("not-gray", f"{header.samples} samples, {header.photometric}")
    if header.transfer_syntax not in NATIVE:
        return None
    needed = (header.rows * header.columns * header.bits_allocated + 7) // 8
    if header.pixel_length not in (needed, needed + needed % 2):
        return Unreadable("wrong-size", f"PixelData has {header.pixel_length} bytes, "
                          f"{header.rows} x {header.columns} x {header.bits_allocated} bit needs {needed}")
    if header.transfer_syntax != DEFLATED and header.pixel_offset + header.pixel_length > header.size:
        return Unreadable("truncated", f"the file has {header.size} bytes, {header.pixel_offset + header.pixel_length} "
                          "are declared")
    return None


@cache
def decodable(transfer_syntax: str) -> bool:
    """Whether pydicom has a decoder for this transfer syntax UID whose packages are installed."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    try:
        return bool(get_decoder(UID(transfer_syntax)).is_available)
    except NotImplementedError:
        return transfer_syntax in NATIVE


def _no_decoder(transfer_syntax: str) -> Unreadable:
    """Whether nobody decodes this transfer syntax, or only nobody here: then it is the machine that wants mending."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    try:
        missing = get_decoder(UID(transfer_syntax)).missing_dependencies
    except NotImplementedError:
        return Unreadable("unsupported-transfer-syntax", transfer_syntax)
    return Unreadable("no-decoder", f"{UID(transfer_syntax).name}: {'; '.join(missing)}")


def read_stored(path: Path | str) -> tuple[np.ndarray, Header]:
    """Read the stored values of ``path``: [rows, columns], uint16, or int16 for two's complement; and its header.

    Plain 16-bit little-endian files are a view (read-only) of the bytes read; other native ones are unpacked by pydicom,
    and compressed ones decoded by GDCM or pylibjpeg in a process of their own (``decoder``), after what the codestream
    says of itself was compared with the header. The values are those of ``pydicom.dcmread(path).pixel_array`` bit for
    bit. MONOCHROME1 is *not* inverted here: the rescale of a CT holds whatever the polarity of the display (PS3.3
    C.7.6.3.1.2), and a radiograph is turned around with :func:`invert`. No more is read and held than the picture can
    need, whatever the file declares. Raises nothing but Unreadable.
    """
    data, size = read_start(path, WHOLE)
    header = walk(data, size)
    if header is None:
        return _read_other(path, size)
    if found := fault(header):
        raise found
    if not _is_plain(header):
        return _read_other(path, size)
    if len(data) < header.pixel_offset + header.pixel_length:
        with opened(path) as (handle, _):
            data = read_at(handle, header.pixel_offset + header.pixel_length)
    return _view(data, header), header


def _read_other(path: Path | str, size: int) -> tuple[np.ndarray, Header]:
    """Stored values and header of what is not plain."""
    with opened(path) as (handle, _):
        header, get = _parsed(lambda at, count: read_at(handle, count, at), size)
        if found := fault(header):
            raise found
        stored = _unpacked(get, header) if header.transfer_syntax in NATIVE else _decode(get, header)
    if stored.ndim != 2 or stored.dtype.itemsize > 2:
        raise Unreadable("not-gray", f"decoded to {stored.dtype} {stored.shape}")
    return stored.astype(np.int16 if stored.dtype.kind == "i" else np.uint16, copy=False), header


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


def _unpacked(get: Callable[[int, int], bytes], header: Header) -> np.ndarray:
    """A native picture of another depth or byte order, or a deflated one, by pydicom."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    try:
        data = get(header.pixel_offset, header.pixel_length)
        if len(data) < header.pixel_length:
            raise Unreadable("truncated", f"{header.pixel_length} bytes of pixels are declared, {len(data)} are there")
        vr = get(header.pixel_offset - 8, 2).decode("ascii", "replace") if header.transfer_syntax != IMPLICIT else "OW"
        syntax = EXPLICIT if header.transfer_syntax == DEFLATED else header.transfer_syntax
        options: dict[str, Any] = {name: getattr(header, name) for name in FACTS[1:-1]}
        options |= {"number_of_frames": 1, "samples_per_pixel": 1, "photometric_interpretation": header.photometric,
                    "pixel_keyword": "PixelData", "pixel_vr": vr}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return get_decoder(UID(syntax)).as_array(data, **options)[0]
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # pydicom checks the options, and zlib the stream
        raise Unreadable("undecodable", f"{type(error).__name__}: {error}") from error


def _decode(get: Callable[[int, int], bytes], header: Header) -> np.ndarray:
    """A compressed picture, by a decoder in another process."""
    decoded = header.rows * header.columns * header.bits_allocated // 8
    at, most = header.pixel_offset, max(WHOLE, 4 * decoded)
    frame = stream.frame_of(get(at, min(most, header.size - at)), 0, header.size - at <= most)
    stream.check(frame, header)
    return decode({name: getattr(header, name) for name in FACTS}, stream.mended(frame, header.transfer_syntax))
