"""The demos of all competitions with the training of each network cut to a few steps: same files, same code, in a minute.

``template`` is the competition to copy, a copy of which takes seconds.
"""

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

SRC = Path(__file__).resolve().parents[2] / "src"
sys.path.insert(0, str(SRC))

from radstack.recipes.detector import Joint
from radstack.recipes.experiment import Train
from radstack.recipes.sequence import Sequence

PREFIX = "short_"


def short(name: str) -> Any:
    """The demo of competition ``name`` under the name ``short_<name>-demo``."""
    from competitions import load

    demo = load(name, demo=True)
    return dataclasses.replace(cut(demo), name=f"{PREFIX}{name}-demo")


def cut(value: Any) -> Any:
    """``value`` with every recipe of training in it cut; functions and what they hold stay as they are."""
    if isinstance(value, Joint):
        return dataclasses.replace(value, iterations=16)
    if isinstance(value, tuple):
        return type(value)(map(cut, value)) if type(value) is tuple else value
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    new = {name: made for name, one in fields.items() if (made := cut(one)) is not one and made != one}
    if isinstance(value, Train):
        new |= {"epochs": 2, "restarts": 0}
    if isinstance(value, Sequence):
        new |= {"epochs": 2, "bag": 1, "milestones": ()}
    return dataclasses.replace(value, **new) if new else value


def write_competitions(folder: Path, names: tuple[str, ...]) -> None:
    """A package for each competition, to be named in ``RADSTACK_COMPETITIONS``."""
    for name in names:
        package = folder / f"{PREFIX}{name}"
        if name == "template":
            shutil.copytree(SRC / "competitions" / "_template", package, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("__pycache__"))
            for file in package.glob("*.py"):
                text = file.read_text(encoding="utf-8").replace("_template", package.name)
                file.write_text(text.replace("epochs=10", "epochs=2"), encoding="utf-8")
            continue
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(f'"""The demo of {name}, shortened."""\n', encoding="utf-8")
        (package / "demo.py").write_text(f'from short import short\n\nDEMO = short("{name}")\n', encoding="utf-8")
