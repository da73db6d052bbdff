"""The drawn competitions: phantoms with known truth, in each organizer's own file layout, defects included.

The code that draws is imported late: nothing but stage 00 and the report needs it.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from radstack.core.progress import counter


def draw_demo(name: str, folder: Path, *, series: int, workers: int, **wanted: Any) -> None:
    """Draw ``series`` phantoms of competition ``name`` below ``folder``.

    Args:
        name: of the competition.
        folder: becomes an input folder in the organizer's layout.
        series: how many: series, hands, volumes or pictures.
        workers: processes; 1 draws in this one.
        wanted: size in pixels, seed (phantom i of a seed is always the same, whatever ``series`` and ``workers`` are) and
            what else ``phantoms.<name>.draw`` takes.

    Raises:
        UserError: a value is out of range, the folder holds another archive, or the disk is full.
    """
    with counter("phantoms") as tell:
        import_module(f"phantoms.{name}").draw(folder, series=series, workers=workers, progress=tell, **wanted)


def truth(name: str, folder: Path) -> pd.DataFrame | None:
    """What was drawn below ``folder``, as ``phantoms.<name>.read_truth`` has it, for the report alone.

    None where pictures are real, or not all phantoms are drawn.
    """
    from phantoms.archive import TRUTH

    return import_module(f"phantoms.{name}").read_truth(folder) if (folder / TRUTH).exists() else None
