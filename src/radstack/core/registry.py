"""Registries are plain dicts; a name that is not in one is an error that names the nearest that are."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from radstack.core.errors import UserError

V = TypeVar("V")


def pick(registry: Mapping[str, V], name: str, what: str) -> V:
    """``registry[name]``, or a UserError that says what it should have been (``what``, e.g. "schedule") and the nearest."""
    check_name(registry, name, what)
    return registry[name]


def check_name(known: Iterable[str], name: str, what: str) -> None:
    """Raise a UserError with the three nearest names unless ``name`` is one of ``known``."""
    known = list(known)
    if name in known:
        return
    longer = [each for each in known if each.startswith(name)][:3]
    near = longer or difflib.get_close_matches(name, known, n=3, cutoff=0)
    raise UserError(f"there is no {what} '{name}'; did you mean {' or '.join(map(repr, near)) or 'none at all'}?")
