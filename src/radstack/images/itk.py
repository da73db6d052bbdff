"""Volumes read by ITK in an expendable process, as ``dicom.decoder`` does it for compressed pictures.

ITK's readers write beyond their arrays at some damaged headers, which ends the process at once, or at a later, sound file.
Here neither costs more than the damaged one: a helper that dies is replaced and asked again, and one whose ITK met a
damaged file is not asked for another.
"""

import atexit
import os
from pathlib import Path
from typing import Any

import numpy as np

from radstack.images.dicom.decoder import TRIES, Died, Helper
from radstack.images.unreadable import Unreadable

START = "import sys; sys.path.insert(0, sys.argv[1]); from radstack.images import itk; itk.serve_volumes()"
HELPER = Helper(START)
atexit.register(HELPER.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=HELPER.forget)
NOTED = ("qform_code", "sform_code", "vox_offset", "bitpix", "datatype")
"""What of a NIfTI header is told as it stands there."""


def header(path: Path) -> dict[str, Any]:
    """What ITK reads in the header of a file, in its own order of axes (x, y, z).

    ``size``, ``spacing``, ``origin``, ``direction`` (a list of numbers each), ``components`` of a voxel, ``kind`` (the name
    of its type), and ``noted`` (``NOTED``, text). Unreadable (``bad-header``) where ITK refuses it or dies of it.
    """
    return _asked({"path": str(path.absolute())}, path, "bad-header", "")[0]


def voxels(path: Path, axes: str, said: dict[str, Any], keep_direction: bool) -> np.ndarray:
    """Read the voxels, turned until their axes are ``axes`` of sitk.DICOMOrient: float32 [slices, rows, columns].

    ``said`` is the :func:`header`; with ``keep_direction`` its direction holds, whatever ITK makes of it with the voxels.
    Unreadable: ``truncated`` where ITK refuses them, ``undecodable`` where it dies of them.
    """
    facts = {"path": str(path.absolute()), "axes": axes, "count": int(np.prod(said["size"])),
             "direction": said["direction"] if keep_direction else None}
    answer, pixels = _asked(facts, path, "truncated", "the voxels are missing or cut off: ", "undecodable")
    return np.frombuffer(pixels, np.float32).reshape(answer["shape"]).copy()  # what is read may be written to


def _asked(facts: dict[str, Any], path: Path, refused: str, prefix: str, died_of: str = "") -> tuple[dict[str, Any], bytes]:
    """The helper's answer; Unreadable for what ITK refuses, or where two helpers die of it."""
    for last in range(1, TRIES + 1):
        try:
            answer, pixels = HELPER.ask(facts, b"")
        except Died as died:
            if last == TRIES:
                raise Unreadable(died_of or refused, f"{path.name}: ITK died of it ({died})") from died
            continue
        if "error" in answer:
            if path.suffix in (".mhd", ".mha"):
                HELPER.close()  # what it wrote where is not known
            raise Unreadable(refused, f"{path.name}: {prefix}{answer['error']}")
        return answer, pixels
    raise AssertionError


def last_line(error: Exception) -> str:
    """The line of an ITK message that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Reason:")]
    return lines[-1].rpartition("): ")[2] if lines else type(error).__name__  # without the class and its address


def serve_volumes() -> None:
    """What the helper runs."""
    from radstack.images.dicom.child import serve

    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # a thread more is address space less
    serve(_answer)


def _answer(facts: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    import SimpleITK as sitk

    from radstack.images.dicom.child import limit

    limit(4 * facts.get("count", 0))
    reader = sitk.ImageFileReader()
    reader.SetFileName(facts["path"])
    try:
        return _voxels(reader, facts) if "count" in facts else (_header(reader), b"")
    except (RuntimeError, MemoryError) as error:
        return {"error": last_line(error)}, b""


def _header(reader: Any) -> dict[str, Any]:
    import SimpleITK as sitk

    reader.ReadImageInformation()
    return {"size": reader.GetSize(), "spacing": reader.GetSpacing(), "origin": reader.GetOrigin(),
            "direction": reader.GetDirection(), "components": reader.GetNumberOfComponents(),
            "kind": sitk.GetPixelIDValueAsString(reader.GetPixelID()),
            "noted": {name: reader.GetMetaData(name) for name in NOTED if reader.HasMetaDataKey(name)}}


def _voxels(reader: Any, facts: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    import SimpleITK as sitk

    reader.SetOutputPixelType(sitk.sitkFloat32)
    image = reader.Execute()
    if facts["direction"]:
        image.SetDirection(facts["direction"])
    image = sitk.DICOMOrient(image, facts["axes"])  # kept: the view does not own its memory
    pixels = sitk.GetArrayViewFromImage(image)
    return {"shape": pixels.shape}, pixels.tobytes()
