"""How the name of a file says whose picture it is."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from radstack.core.registry import pick
from radstack.images.formats import stem_of

VOLUME = re.compile(r"\.(nii|nrrd|mha|mhd)(\.gz)?$", re.IGNORECASE)
DIGITS = re.compile("[0-9]+")


def stem(path: str) -> str:
    """The name without folders and without the ending of a picture or volume."""
    name = PurePosixPath(path).name
    return VOLUME.sub("", name) if VOLUME.search(name) else stem_of(name)


def natural(path: str) -> str:
    """What sorts paths as people count: ``slice_2`` before ``slice_10``."""
    return DIGITS.sub(_counted, path)


def _counted(digits: re.Match[str]) -> str:
    """Digits behind their count, without zeros in front: the order by letter is then that by size."""
    least = digits[0].lstrip("0")
    return f"{len(least):03d}{least}"


KEYS: dict[str, Callable[[str], str]] = {
    "stem": stem,
    "name": lambda path: PurePosixPath(path).name,
    "path without ending": lambda path: str(PurePosixPath(path).parent / stem(path)),
    "path": lambda path: path,
    "folder": lambda path: PurePosixPath(path).parent.name,
    "prefix": lambda path: re.split(r"[_\-. ](?=[^_\-. ]*$)", stem(path))[0],
}
"""Name -> what the path of a file says; from the last two several files may say the same."""
MANY = ("folder", "prefix")
"""Keys that several files of one id may share."""


def key_of(match: str, path: str) -> str:
    """What ``path`` says by the key ``match``."""
    return pick(KEYS, match, "way to match")(path)
