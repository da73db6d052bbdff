"""A DICOM radiograph (CR, DX) as a viewer shows it: its lookup tables or window, bright bones, no border.

The order is that of DICOM PS3.3 C.11: stored values, modality table or slope and intercept, table or window of values of
interest, polarity. A table or a window that cannot be used counts as absent.
"""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from radstack.images.dicom.file import Header, Unreadable, fault, read_header, read_stored

MODALITIES = ("CR", "DX", "DR", "RG", "OT", "")
"""Computed and digital radiography, digitized film, "other" (as secondary captures have it); "" where none is given."""
STRETCH = (0.5, 99.5)
"""Percentiles that become 0 and 255 where nothing says how to show a picture: detectors use a part of their range, a lead
marker or a dead pixel must not set the scale."""
SHUTTERS = ("ShutterShape", "ShutterLeftVerticalEdge", "ShutterRightVerticalEdge", "ShutterUpperHorizontalEdge",
            "ShutterLowerHorizontalEdge", "CenterOfCircularShutter", "RadiusOfCircularShutter",
            "VerticesOfThePolygonalShutter")
FIELDS = ("ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction", *SHUTTERS)
"""What is read of the header beside :class:`Header`."""


def radiograph_header(path: Path) -> Header:
    """The header of a radiograph; Unreadable as :func:`read_header` and :func:`fault` say, and ``not-a-radiograph``."""
    header = read_header(path)
    if found := fault(header):
        raise found
    if header.modality not in MODALITIES:
        raise Unreadable("not-a-radiograph", f"its modality is {header.modality}, not {', '.join(MODALITIES[:2])}")
    return header


def read_display(path: Path) -> np.ndarray:
    """Gray values as a viewer shows them, bones bright whatever the polarity, uint8 [height, width].

    Padding, what lies outside of the shutter, and a burned border (:func:`inside`) are 0. Unreadable as
    :func:`radiograph_header` and :func:`read_stored` say.
    """
    radiograph_header(path)
    stored, header = read_stored(path)
    fields = _fields(path)
    rows, columns = inside(stored)
    shown = np.zeros(stored.shape, bool)
    shown[rows, columns] = True
    shown &= ~_padding(stored, header) & _shutter(fields, stored.shape)
    if not shown.any():
        raise Unreadable("undecodable", "padding and shutter leave nothing to see")
    gray = _gray(_modality(stored, header, fields), header, fields, shown)
    if header.photometric == "MONOCHROME1":
        gray = 255 - gray
    return np.where(shown, gray, 0).astype(np.uint8)


def person(header: Header) -> str:
    """Whose picture it is: the PatientID, where that is blank the study, else the series; "" where all are."""
    return header.patient or header.study or header.series


def inside(picture: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns within a burned border: lines of one value at an edge that end in a step.

    Where the next line has that value in half of its pixels or more, it is the background of the picture, and no border.
    """
    top, bottom = _inside(picture)
    left, right = _inside(picture[top:bottom].T)
    if (top, bottom) == (0, len(picture)) and (left, right) != (0, picture.shape[1]):
        top, bottom = _inside(picture[:, left:right])  # rows of one value reach across columns of another
    return slice(top, bottom), slice(left, right)


def _inside(lines: np.ndarray) -> tuple[int, int]:
    """First line, and the one after the last, within the border."""
    even = (lines == lines[:, :1]).all(axis=1)
    if even.all():
        return 0, len(lines)
    first, last = int(np.argmin(even)), len(lines) - int(np.argmin(even[::-1]))
    first = first if first and np.mean(lines[first] == lines[first - 1, 0]) < 0.5 else 0
    last = last if last < len(lines) and np.mean(lines[last - 1] == lines[last, 0]) < 0.5 else len(lines)
    return first, last


def stretch(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Values of any number type -> uint8: the percentiles ``STRETCH`` of those ``counted`` (bool) become 0 and 255."""
    low, high = np.percentile(values[counted], STRETCH)
    # A picture of one value has no range; it becomes 0.
    least = 1 if np.issubdtype(values.dtype, np.integer) else np.finfo(np.float32).tiny
    return _to_bytes((values.astype(np.float32) - low) * (255 / max(high - low, least)))


def _to_bytes(levels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _fields(path: Path) -> dict[str, Any]:
    """``FIELDS`` of a file, as far as they are there and can be read."""
    import pydicom  # a third of a second

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(FIELDS), force=True)
        found = {name: _tried(partial(dataset.get, name)) for name in FIELDS}
    return {name: value for name, value in found.items() if value is not None}


def _tried(read: Callable[[], Any]) -> Any:
    """What ``read`` gives; None where a faulty element stops it."""
    try:
        return read()
    except Exception:  # pydicom meets broken bytes with whatever the parsing step happened to raise
        return None


def _modality(stored: np.ndarray, header: Header, fields: dict[str, Any]) -> np.ndarray:
    table = _tried(lambda: _table(fields["ModalityLUTSequence"][0]))
    if table is not None:
        return _look_up(stored, *table)
    return stored.astype(np.float32) * (header.slope or 1) + header.intercept


def _gray(values: np.ndarray, header: Header, fields: dict[str, Any], shown: np.ndarray) -> np.ndarray:
    """Values as uint8 by the file's table, else by its window, else by their range."""
    table = _tried(lambda: _table(fields["VOILUTSequence"][0]))
    if table is not None:
        top = (1 << int(table[1].max()).bit_length()) - 1  # the declared number of bits is often another
        ways = [_look_up(values, *table) / max(top, 1)]
    else:
        ways = _windowed(values, header, str(fields.get("VOILUTFunction", "")).strip())
    for gray in (_to_bytes(share * 255) for share in ways):
        if gray[shown].min() < gray[shown].max():  # one that shows nothing was not meant for this picture
            return gray
    return stretch(values, shown)


def _windowed(values: np.ndarray, header: Header, function: str) -> list[np.ndarray]:
    """Shares 0 to 1 by the first window (PS3.3 C.11.2.1.2 and C.11.2.1.3), in a list that is empty without one."""
    if not header.window_center or not header.window_width:
        return []
    center, width = header.window_center[0], header.window_width[0]
    if width <= 0 or (function in ("", "LINEAR") and width < 1):
        return []
    if function == "SIGMOID":
        return [1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -80, 80)))]
    if function == "LINEAR_EXACT":
        return [(values - center) / width + 0.5]
    return [(values - (center - 0.5)) / max(width - 1, 1e-3) + 0.5]


def _table(item: Any) -> tuple[int, np.ndarray]:
    """First value that is mapped, and the outputs from it on, of an item of a sequence of tables (PS3.3 C.11.1.1)."""
    count, first, bits = (int(number) for number in item["LUTDescriptor"].value)
    data = item["LUTData"].value
    count = count or 65536
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if bits <= 8 and len(data) < 2 * count else "<u2")
    outputs = np.array(data, np.float32)[:count]
    if len(outputs) < count or not outputs.max():
        raise ValueError("a table without its values")
    return first, outputs


def _look_up(values: np.ndarray, first: int, outputs: np.ndarray) -> np.ndarray:
    # Written as US or SS, whatever the sign of the values.
    first = first - 0x10000 if first >= 0x8000 and values.min() < 0 else first
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, len(outputs) - 1)
    return outputs[index]


def _padding(stored: np.ndarray, header: Header) -> np.ndarray:
    if header.padding is None:
        return np.zeros(stored.shape, bool)
    other = header.padding if header.padding_limit is None else header.padding_limit
    return (stored >= min(header.padding, other)) & (stored <= max(header.padding, other))


def _shutter(fields: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """What the display shutter leaves open (PS3.3 C.7.6.11), bool [height, width]; places count from 1, rows first."""
    y, x = np.ogrid[1:shape[0] + 1, 1:shape[1] + 1]
    drawn = {"RECTANGULAR": lambda: _rectangle(fields, y, x), "CIRCULAR": lambda: _circle(fields, y, x),
             "POLYGONAL": lambda: _polygon(fields, shape)}
    given = fields.get("ShutterShape", "")
    names = [given] if isinstance(given, str) else list(given)
    open_ = np.ones(shape, bool)
    for name in names:
        one = _tried(drawn.get(str(name).strip(), lambda: None))
        open_ &= True if one is None or not one.any() else one
    return open_


def _rectangle(fields: dict[str, Any], y: np.ndarray, x: np.ndarray) -> np.ndarray:
    left, right, upper, lower = (int(fields[name]) for name in SHUTTERS[1:5])
    return (x > left) & (x < right) & (y > upper) & (y < lower)


def _circle(fields: dict[str, Any], y: np.ndarray, x: np.ndarray) -> np.ndarray:
    row, column = map(int, fields["CenterOfCircularShutter"])
    return (y - row) ** 2 + (x - column) ** 2 <= int(fields["RadiusOfCircularShutter"]) ** 2


def _polygon(fields: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    corners = np.array(fields["VerticesOfThePolygonalShutter"], np.int32).reshape(-1, 2)[:, ::-1] - 1
    return cv2.fillPoly(np.zeros(shape, np.uint8), [corners], 1).astype(bool)
