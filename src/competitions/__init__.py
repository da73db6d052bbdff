"""One folder a competition; here is how a script, or a job on another machine, gets hold of one."""

import importlib
import os
import pkgutil
import sys
from pathlib import Path
from typing import Any

from radstack.core.errors import UsageError
from radstack.core.registry import check_name
from radstack.recipes.competition import Competition
from radstack.running.cli import reopen

OWN = [str(Path(folder).resolve()) for folder in os.environ.get("RADSTACK_COMPETITIONS", "").split(os.pathsep) if folder]
"""Folders of competitions that live outside the repository; jobs in other processes inherit the variable."""
__path__ += OWN

NAMES = tuple(sorted((module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")),
                     key=lambda name: (name != "ich", name)))  # examples name the first: the competition that most come for
"""Every folder here and in ``OWN``; ``_template`` is no competition but the one to copy."""
VARIANTS = ("demo", "ablation")
"""``<name>-<variant>`` is in ``<name>/<variant>.py``."""


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
    check_name(VARIANTS, variant, f"variant of {name},")
    return getattr(importlib.import_module(f"competitions.{name}.{variant}"), variant.upper())


def localize(context: dict[str, Any], fold: int) -> None:
    """Job of stage 02: train the networks that find the anatomy for one fold, and let them."""
    from radstack.stages.localize import localize_fold

    localize_fold(reopen(context, load), fold)


def train(context: dict[str, Any], experiment: str, fold: int) -> None:
    """Job of stage 04: train one experiment on one fold."""
    from radstack.stages.train import train_fold

    train_fold(reopen(context, load), experiment, fold)


def predict(context: dict[str, Any], experiment: str, fold: int) -> None:
    """Job of stage 05: predict with one experiment's network of one fold."""
    from radstack.stages.predict import predict_fold

    predict_fold(reopen(context, load), experiment, fold)


def sequence(context: dict[str, Any], recipe: str, fold: int) -> None:
    """Job of stage 06: fit one sequence model for one fold and predict with it."""
    from radstack.stages.sequence import sequence_fold

    sequence_fold(reopen(context, load), recipe, fold)
