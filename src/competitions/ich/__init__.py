"""RSNA 2019 intracranial hemorrhage detection: six labels a CT slice, weighted log loss.

Sources: "the four-network write-up", a Chinese article of unknown author on four networks, their blend and a sequence model;
and the public code of SeuTao (first place), NoBrainer (second place, darraghdog), okotaku (a member of the third place) and
appian (11th place), all of 2019.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from competitions.ich import head, hu
from competitions.ich.cases import view
from competitions.ich.experiments import EXPERIMENTS, SEQUENCES, STACKERS
from competitions.ich.index import SAMPLE_CSV, TRAIN_CSV, build_index
from competitions.ich.labels import TARGETS
from competitions.ich.report import PUBLISHED, series_table
from radstack.core.paths import Paths
from radstack.images.dicom import read_stored
from radstack.images.shards import crop_square
from radstack.recipes.competition import CacheRecipe, Competition, Data, Models, Pages
from radstack.recipes.localizer import Classical
from radstack.scoring.task import Metric


def read(path: Path) -> np.ndarray:
    """Hounsfield units of one file, int16 [rows, columns]."""
    return hu.to_hu(*read_stored(path))


def localize(pixels: np.ndarray) -> dict[str, Any]:
    """Head box and brain features of one slice; its size is in the index already."""
    found = head.measure(pixels)
    return {name: value for name, value in found.items() if name not in ("rows", "columns")}


def settle(table: pd.DataFrame) -> pd.DataFrame:
    """Replace each slice's head box by the square crop of its series, so that neighbors stay aligned."""
    boxes = head.series_boxes(table)
    own = table.drop(columns=head.EDGES)
    return own.merge(boxes, on=["series", "rows", "columns"], how="left", validate="many_to_one")


def picture(paths: Paths, row: Any, recipe: CacheRecipe) -> np.ndarray:
    """Hounsfield units of the head of one slice, the head rest blanked, int16 of the cache's (square) size."""
    pixels = head.remove_head_rest(read(paths.input / row.path))
    return crop_square(pixels, row.top, row.left, row.side, recipe.size[0], recipe.fill)


def label_files(folder: Path) -> tuple[Path, ...]:
    """The organizer's two tables."""
    return folder / TRAIN_CSV, folder / SAMPLE_CSV


def sample_file(folder: Path) -> Path:
    """The sample submission."""
    return folder / SAMPLE_CSV


COMPETITION = Competition(
    name="ich",
    title="RSNA 2019 intracranial hemorrhage",
    targets=TARGETS,
    metric=Metric("weighted log loss", (1, 1, 1, 1, 1, 2)),
    data=Data(build_index, label_files, sample_file, picture, kaggle="rsna-intracranial-hemorrhage-detection",
              disk=640_000_000_000),
    localizer=Classical(read, localize, settle),
    # A head of 190 mm is 390 pixels at the usual 0.49 mm, and the crop is not much larger: 400 keeps what was measured,
    # in 280 GB where 512 would take 458.
    cache=CacheRecipe(size=(400, 400), fill=hu.LOWEST, by=("top", "left", "side")),
    models=Models(EXPERIMENTS, STACKERS, final="final", sequences=SEQUENCES),
    pages=Pages(published=PUBLISHED, case_tables={"series": series_table}, case_by="series", case_view=view),
)
