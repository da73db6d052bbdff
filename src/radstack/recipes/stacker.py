"""A Stacker is a level-two recipe over the out-of-fold tables of experiments, sequence models or other stackers."""

from dataclasses import dataclass, field
from typing import Any

from radstack.core.recipe import REMARK


@dataclass(frozen=True)
class Outside:
    """Predictions that came as tables, of models that are not trained here: a member without a recipe."""

    name: str
    """Folder below ``oof/``."""
    tables: tuple[str, ...]
    """Files that it came in."""
    mark: str
    """Why it may enter plain averages alone; "" where it is a member like any other."""
    suspected: tuple[str, ...] = ()
    """Why it is suspected of a leak."""


@dataclass(frozen=True)
class Stacker:
    """A level-two recipe. Changing anything here fits the stack anew."""

    name: str
    """Folder below ``oof/``."""
    method: str
    """A name of ``radstack.stack.registry.METHODS``, e.g. ``weights`` or ``lightgbm``."""
    members: tuple[str, ...]
    """Names below ``oof/``; earlier stackers count too."""
    args: dict[str, Any] = field(default_factory=dict)
    """Settings of the method that differ from its defaults; an unknown one is an error."""
    note: str = field(default="", metadata=REMARK)
    """Where the numbers come from."""
