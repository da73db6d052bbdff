"""From a slice to the square crop of its head: by rules, nothing is trained; how the head is found is in ``head.py``."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from competitions.ich import head, hu
from radstack.core.paths import Paths
from radstack.images.dicom import read_stored
from radstack.images.shards import crop_square
from radstack.recipes.competition import CacheRecipe
from radstack.recipes.localizer import Classical


def read(path: Path) -> np.ndarray:
    """Hounsfield units of one file, int16 [rows, columns]."""
    return hu.to_hu(*read_stored(path))


def localize(pixels: np.ndarray) -> dict[str, Any]:
    """Head box, brain features and air of one slice; its size is in the index already."""
    found = head.measure(pixels) | {"air": hu.air_level(pixels)}
    return {name: value for name, value in found.items() if name not in ("rows", "columns")}


def write_boxes(table: pd.DataFrame) -> pd.DataFrame:
    """Replace each slice's head box by the square crop of its series, so that neighbors stay aligned; flag odd HU."""
    boxes = head.series_boxes(table)
    own = table.drop(columns=head.EDGES).assign(hu_flag=hu.doubts(table))
    return own.merge(boxes, on=["series", "rows", "columns"], how="left", validate="many_to_one")


def picture(paths: Paths, row: Any, recipe: CacheRecipe) -> np.ndarray:
    """Hounsfield units of the head of one slice, the head rest blanked, int16 of the cache's (square) size."""
    pixels = head.remove_head_rest(read(paths.input / row.path))
    return crop_square(pixels, row.top, row.left, row.side, recipe.size[0], recipe.fill)


HEAD = Classical(read, localize, write_boxes)
