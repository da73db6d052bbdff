"""Whether ITK survives the header of a volume: tried in the expendable process of ``dicom.decoder`` before it is read here.

Its readers write beyond their arrays at a damaged number of axes, which ends the process and says no name.
"""

import atexit
import os
from pathlib import Path
from typing import Any

from radstack.images.dicom.decoder import TRIES, Died, Helper
from radstack.images.unreadable import Unreadable

START = "import sys; sys.path.insert(0, sys.argv[1]); from radstack.images import trial; trial.serve_trials()"
HELPER = Helper(START)
atexit.register(HELPER.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=HELPER.forget)


def try_header(path: Path) -> None:
    """Unreadable (``bad-header``) where ITK dies of reading the header of ``path``; what it only refuses is told later."""
    for last in range(1, TRIES + 1):
        try:
            HELPER.ask({"path": str(path.absolute())}, b"")
            return
        except Died as died:
            if last == TRIES:
                raise Unreadable("bad-header", f"{path.name}: ITK died of it ({died})") from died


def serve_trials() -> None:
    """What the helper runs."""
    from radstack.images.dicom.child import serve

    serve(_try)


def _try(facts: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(facts["path"])
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        return {"error": str(error)[:100]}, b""
    return {}, b""
