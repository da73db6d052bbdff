"""One folder a competition; here is how a script gets hold of one."""

import importlib.util
import os
import pkgutil
import sys
from pathlib import Path

from radstack.core.errors import UsageError, UserError
from radstack.core.registry import check_name
from radstack.recipes.competition import Competition
from radstack.recipes.study import Study

OWN = [str(Path(folder).resolve()) for folder in os.environ.get("RADSTACK_COMPETITIONS", "").split(os.pathsep) if folder]
"""Folders of competitions that live outside the repository; jobs in other processes inherit the variable."""
__path__ += OWN

NAMES = tuple(sorted((module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")),
                     key=lambda name: (name != "ich", name)))  # examples name the first: the competition that most come for
"""Every folder here and in ``OWN``; ``_template`` is no competition but the one to copy."""
VARIANTS = ("demo", "small", "heldout", "ablation")
"""``<name>-<variant>`` is in ``<name>/<variant>.py`` of a competition that has it, or stands in its ``__init__.py`` by that
name in capitals; ``--recipes`` names one, too."""


def load(name: str, demo: bool = False) -> Competition:
    """The competition ``name``, or with ``demo`` its phantoms; ``ich-ablation`` names the variant in ``ich/ablation.py``.

    Raises:
        UsageError: no name is given; lists them.
        UserError: there is none, with the nearest name.
    """
    if not name:
        raise UsageError(f"which competition? type one of {', '.join(NAMES)} after the script, with --demo for its "
                         f"phantoms: python {sys.argv[0]} {NAMES[0]} --demo")
    name, _, variant = (f"{name}-demo" if demo else name).partition("-")
    check_name(NAMES, name, "competition")
    if not variant:
        return importlib.import_module(f"competitions.{name}").COMPETITION
    check_name(variants(name), variant, f"set of recipes of {name},")
    own = importlib.import_module(f"competitions.{name}")
    return getattr(own if hasattr(own, variant.upper()) else importlib.import_module(f"competitions.{name}.{variant}"),
                   variant.upper())


def studies(competition: Competition) -> tuple[Study, ...]:
    """The tables and figures of a competition's sources, of the size that its recipes have; from its ``studies.py``.

    UserError where it has none.
    """
    module = f"competitions.{competition.words[0]}.studies"
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{competition.words[0]} has no studies; write src/{module.replace('.', '/')}.py, as ich has")
    found: tuple[Study, ...] = importlib.import_module(module).studies(competition)
    return found


def variants(name: str) -> list[str]:
    """Those of ``VARIANTS`` that the competition ``name`` has."""
    own = importlib.import_module(f"competitions.{name}")
    return [variant for variant in VARIANTS if hasattr(own, variant.upper())
            or importlib.util.find_spec(f"competitions.{name}.{variant}")]
