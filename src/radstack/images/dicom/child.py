"""The process that decodes compressed pictures for another one, and may die of them: see ``decoder``.

It reads a picture from its standard input, answers on its standard output, and ends when the input does. A decoder in C
that does not come back is ended by the system after ``MOST_SECONDS`` of computing.
"""

import contextlib
import json
import os
import signal
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, RLELossless

from radstack.images.dicom.decoder import FRAME, MOST_SECONDS, budget

STRICT = ("gdcm", "pylibjpeg", "pydicom")
"""Decoders in the order of preference. The first that knows the syntax decides: where it refuses, another one's leniency
would pass wrong pixels for right ones."""

PASSED = ("rows", "columns", "bits_allocated", "bits_stored", "pixel_representation")

LENIENT, LENIENT_BY = (JPEGBaseline8Bit, JPEGExtended12Bit), 8
"""Lossy JPEG: GDCM fills what it cannot read with gray and says nothing. So libjpeg must read it, too, and come as near:
sound pictures differ by up to three gray levels, since the standard leaves the rounding of the transform open."""


def serve(answer: Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]] | None = None) -> None:
    """Answer pictures, or by ``answer`` another kind of question, until the input ends."""
    source, answers = _own_streams()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it, as it does the process that it works for
    with contextlib.suppress(OSError):
        while len(head := source.read(FRAME.size)) == FRAME.size:
            length, size = FRAME.unpack(head)
            facts, data = json.loads(source.read(length)), source.read(size)
            said, pixels = (answer or _answer)(facts, data)
            text = json.dumps(said).encode()
            answers.write(FRAME.pack(len(text), len(pixels)) + text)
            answers.write(pixels)
            answers.flush()


def _own_streams() -> tuple[BinaryIO, BinaryIO]:
    """Input and output, apart from the numbers 0, 1 and 2, to which decoders in C may write what they like."""
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    return source, answers


def _answer(facts: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Dtype and shape with the pixels, or an ``error`` without any."""
    limit(facts["rows"] * facts["columns"] * facts["bits_allocated"] // 8)
    try:
        pixels = decode(facts, data)
        return {"dtype": pixels.dtype.str, "shape": pixels.shape}, pixels.tobytes()
    except MemoryError:
        return {"error": "decoding takes more memory than such a picture can need"}, b""
    except BaseException as error:  # decoders raise what they like, Rust's panics are no Exception
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())}, b""


def decode(facts: dict[str, Any], frame: bytes) -> np.ndarray:
    """The picture of one codestream by the strict decoder, as pydicom gives it: [rows, columns]."""
    syntax = UID(facts["transfer_syntax"])
    if syntax == RLELossless:
        _check_length(facts, frame)
    options: dict[str, Any] = {name: facts[name] for name in PASSED}
    options |= {"number_of_frames": 1, "samples_per_pixel": 1, "photometric_interpretation": facts["photometric"],
                "pixel_keyword": "PixelData"}
    first = plugin(syntax, facts["bits_stored"])
    pixels = _by(first, syntax, frame, options)
    if syntax in LENIENT and first == "gdcm":
        other = _by("pylibjpeg", syntax, frame, options)
        if np.abs(pixels.astype(int) - other).max() > LENIENT_BY:
            raise ValueError("two decoders make different pixels of it: the stream is damaged")
    return pixels


def _by(name: str, syntax: UID, frame: bytes, options: dict[str, Any]) -> np.ndarray:
    """What one of pydicom's plugins makes of a codestream."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_decoder(syntax).as_array(_encapsulated(frame), decoding_plugin=name, **options)[0]


def plugin(syntax: UID, bits: int) -> str:
    """Which of pydicom's plugins decides on a syntax; GDCM has no 12 bits of JPEG Extended in this interface."""
    known = get_decoder(syntax).available_plugins
    order = STRICT[1:] if syntax == JPEGExtended12Bit and bits != 8 else STRICT
    return next(name for name in order if name in known)


def _encapsulated(frame: bytes) -> bytes:
    """PixelData of one fragment: an empty table of offsets, the frame, the end."""
    head = struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(frame))
    return head + frame + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def _check_length(facts: dict[str, Any], frame: bytes) -> None:
    """ValueError where RLE segments hold more than the picture: RLE has no size of its own, and its decoder stops early.

    An odd segment may be padded by a byte, which adds none to what comes out, or one.
    """
    from rle import rle

    wanted = facts["rows"] * facts["columns"]
    try:
        rle.decode_frame(frame, wanted + 2, facts["bits_allocated"], "<")
    except ValueError:  # fewer than that, as it must be, or as the decoder itself will tell
        return
    except BaseException:  # a panic: the last run goes beyond even that
        ...
    raise ValueError(f"the RLE frame holds more than {wanted} pixels")


def limit(decoded: int) -> None:
    """Let the system refuse memory above what a picture of ``decoded`` bytes may take, and end a computation without end."""
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    status = Path("/proc/self/statm")
    if not status.exists():  # elsewhere than on Linux the limit is not kept, or counts what is only reserved
        return
    import resource

    used = int(status.read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + budget(decoded)
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
