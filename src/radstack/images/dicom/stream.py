"""Encapsulated PixelData: its frame taken out, and what the frame says of itself compared with the header.

Decoders believe a codestream's own width, height and precision: they allocate what it says, and pictures of another
shape are read past their end or come out scrambled. So these are read here first (items: DICOM PS3.5 annex A.4; JPEG:
ITU-T T.81 annex B; JPEG-LS: T.87 annex C; JPEG 2000: T.800 annex A; RLE: PS3.5 annex G).
"""

import struct
from typing import TYPE_CHECKING, NamedTuple

from radstack.images.unreadable import Unreadable

if TYPE_CHECKING:
    from radstack.images.dicom.file import Header

_COMPRESSED = "1.2.840.10008.1.2."
RLE = _COMPRESSED + "5"
BASELINE, EXTENDED = _COMPRESSED + "4.50", _COMPRESSED + "4.51"
JPEG = (BASELINE, EXTENDED, *(f"{_COMPRESSED}4.{last}" for last in (57, 70, 80, 81)))
"""With lossless, and JPEG-LS."""
JPEG_2000 = tuple(f"{_COMPRESSED}4.{last}" for last in (90, 91, 92, 93, 201, 202, 203))
"""With the high-throughput kinds."""
ITEM, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
SOI, EOI, SOS = b"\xff\xd8", b"\xff\xd9", 0xDA
NO_FRAME_HEADER = (0xC4, 0xC8, 0xCC)
"""Markers among 0xC0 to 0xCF that do not start a frame header (T.81 table B.1)."""
JPEG_LS_FRAME = 0xF7
J2K_START = b"\xff\x4f\xff\x51"  # Start of codestream, and the size marker that must follow
J2K_END = b"\xff\xd9"
SIZE = struct.Struct(">8IH3B")  # Of the SIZ segment after Rsiz: four pairs of x and y, components, three of the first one
PADDING = b"\0\xff"
"""Bytes that writers put behind a codestream to make its length even."""
RLE_HEAD = struct.Struct("<16I")


class Frame(NamedTuple):
    """What a codestream says of itself."""

    rows: int
    columns: int
    bits: int  # Of a sample
    samples: int  # Components
    ended: bool  # By its end mark


def frame_of(data: bytes, at: int, whole: bool) -> bytes:
    """The one frame of encapsulated PixelData whose value starts at ``at``: its fragments, joined.

    ``whole`` says that ``data`` goes to the end of the file. Unreadable as ``truncated`` where an item does not end in it,
    ``undecodable`` where there are no items, ``wrong-size`` where ``data`` is a part that should have been enough.
    """
    pieces, offsets = [], True
    while data[at:at + 4] == ITEM and at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4:at + 8], "little")
        if end > len(data):
            raise _cut(end, data, whole)
        pieces += [] if offsets else [data[at + 8:end]]  # the first item is the table of offsets
        at, offsets = end, False
    if data[at:at + 4] != SEQUENCE_END and len(data) - at >= 8:
        raise Unreadable("undecodable", f"no item of pixels at byte {at} but {data[at:at + 4].hex()}")
    if not any(pieces):
        raise Unreadable("truncated" if at + 8 > len(data) else "no-pixels", "no item holds pixels")
    return b"".join(pieces)


def _cut(end: int, data: bytes, whole: bool) -> Unreadable:
    if whole:
        return Unreadable("truncated", f"an item of pixels ends at byte {end}, the file at {len(data)}")
    return Unreadable("wrong-size", f"an item of pixels ends at byte {end}, far more than the picture takes up")


def check(frame: bytes, header: "Header") -> None:
    """Compare what a codestream says of itself with the header.

    Unreadable as ``wrong-size`` (another shape, precision or number of components), ``truncated`` (no end mark) or
    ``undecodable`` (no codestream of the header's syntax).
    """
    syntax = header.transfer_syntax
    if syntax == RLE:
        _check_rle(frame, header)
        return
    if syntax in JPEG_2000 or syntax.startswith(_COMPRESSED + "4.20"):
        said = _j2k(frame)
    elif syntax in JPEG:
        said = _jpeg(frame)
    else:
        return
    _compare(said, header)
    if not said.ended:
        raise Unreadable("truncated", f"the codestream of {len(frame)} bytes has no end mark")


def _compare(said: Frame, header: "Header") -> None:
    if (said.rows, said.columns, said.samples) != (header.rows, header.columns, 1):
        raise Unreadable("wrong-size", f"the codestream has {said.rows} x {said.columns} pixels of {said.samples} samples, "
                         f"the header {header.rows} x {header.columns}")
    # Encoders write the bits that count, or those of the container: a 12-bit picture as 16 bits.
    if said.bits not in (header.bits_stored, header.bits_allocated):
        raise Unreadable("wrong-size", f"the codestream has {said.bits} bits a sample, the header {header.bits_stored}")


def _jpeg(frame: bytes) -> Frame:
    """The frame header of a JPEG or JPEG-LS stream, which goes from SOI to EOI."""
    if frame[:2] != SOI:
        raise Unreadable("undecodable", f"no JPEG stream: it starts with {frame[:4].hex()}")
    at, said = 2, None
    while at + 4 <= len(frame):
        if frame[at] != 0xFF:
            raise Unreadable("undecodable", f"no JPEG marker at byte {at} of the stream but {frame[at:at + 2].hex()}")
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2:at + 4], "big")
        if marker == 0xFF:  # any number of these may fill the space before a marker
            at += 1
            continue
        if marker == SOS:
            break
        if marker == JPEG_LS_FRAME or (0xC0 <= marker <= 0xCF and marker not in NO_FRAME_HEADER):
            bits, rows, columns, samples = struct.unpack(">BHHB", frame[at + 4:at + 10].ljust(6, b"\0"))
            said = Frame(rows, columns, bits, samples, False)
        at += 2 + length
    if said is None:
        raise Unreadable("undecodable" if at + 4 <= len(frame) else "truncated", "the JPEG stream has no frame header")
    # FF D9 is not to be met within the coded data: FF is followed there by 00, by a bit 0, or by a restart marker.
    return said._replace(ended=EOI in frame[at:])


def mended(frame: bytes, syntax: str) -> bytes:
    """A JPEG stream of sequential DCT whose scan says that it ends at coefficient 63, as it must (T.81 B.2.3).

    Some writers of 12 bits say 0, which the strict decoder takes for a scan of nothing. Other streams are as they are.
    """
    if syntax not in (BASELINE, EXTENDED):
        return frame
    at, sequential = 2, False
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2:at + 4], "big")
        sequential |= marker in (0xC0, 0xC1)
        if marker == SOS:
            last = at + length  # the second of the three bytes that end the segment
            empty = sequential and frame[last - 1:last + 2] == bytes(3)
            return frame[:last] + b"\x3f" + frame[last + 1:] if empty else frame
        at += 1 if marker == 0xFF else 2 + length
    return frame


def _j2k(frame: bytes) -> Frame:
    """The size segment of a JPEG 2000 codestream, which may lie in boxes of the file format JP2."""
    start = frame.find(J2K_START)
    if start < 0 or len(frame) < start + 8 + SIZE.size:
        raise Unreadable("undecodable", f"no JPEG 2000 codestream: it starts with {frame[:4].hex()}")
    x, y, left, top, tile_x, tile_y, tile_left, tile_top, samples, depth, step_x, step_y = SIZE.unpack_from(frame, start + 8)
    if (step_x, step_y) != (1, 1) or not tile_x * tile_y or tile_left > left or tile_top > top:
        raise Unreadable("undecodable", "the size segment of the JPEG 2000 codestream contradicts itself")
    ended = frame.rstrip(PADDING)[-2:] == J2K_END
    return Frame(y - top, x - left, (depth & 0x7F) + 1, samples, ended)


def _check_rle(frame: bytes, header: "Header") -> None:
    """A segment for each byte of a sample, one behind the other, none empty (the decoder counts what comes out)."""
    if len(frame) < RLE_HEAD.size:
        raise Unreadable("truncated", f"the RLE frame has {len(frame)} bytes, fewer than its header")
    count, *offsets = RLE_HEAD.unpack_from(frame)
    if count != (header.bits_allocated + 7) // 8:
        raise Unreadable("wrong-size", f"the RLE frame has {count} segments, {header.bits_allocated} bits need "
                         f"{(header.bits_allocated + 7) // 8}")
    ends = [*offsets[1:count], len(frame)]
    if offsets[0] != RLE_HEAD.size or any(one >= end for one, end in zip(offsets, ends)):
        beyond = max(offsets[:count]) >= len(frame)
        raise Unreadable("truncated" if beyond else "undecodable",
                         f"RLE segments begin at {offsets[:count]} of {len(frame)} bytes")
