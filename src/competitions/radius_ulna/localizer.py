"""From a radiograph to crops of both bones: Faster R-CNN boxes, one side for the ulna, 128 x 96 pixels each."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from competitions.radius_ulna.index import BOX_COLUMNS
from competitions.radius_ulna.phases import BONES
from competitions.radius_ulna.views import CROP
from radstack.core.paths import Paths
from radstack.core.recipe import change
from radstack.images.radiograph import read_picture
from radstack.recipes.competition import CacheRecipe
from radstack.recipes.detector import Detector, FourSteps
from radstack.recipes.experiment import Optim, Schedule
from radstack.recipes.localizer import Detection
from radstack.stages.detect import found_columns

FOUND = found_columns(BONES)
"""``found_radius_x1`` .. ``found_ulna_y2``: exactly one box a bone, in raw pixels."""
PADDING = 0.1
"""Share of a box's width and height that is added on each side."""

ZFNET = Detector(
    name="bones_zfnet",
    classes=BONES,
    anchors=((0.12, 0.17, 0.24),),
    ratios=(1.0, 1.6, 2.5),
    note="detector of the HKU-Shenzhen study, jointly trained; anchors fit the two bones' ends, whose boxes are 1 to "
         "2.5 times as high as wide and a tenth to a quarter of the short side",
)
ZFNET_FOUR_STEPS = change(ZFNET, name="bones_zfnet_four_steps", schedule=FourSteps(),
                          note="alternating training of the HKU-Shenzhen study: 8000, 4000, 8000, 4000 iterations")
RESNET = change(
    ZFNET,
    name="bones_resnet50_fpn",
    trunk="resnet50_fpn",
    dense=1024,
    roi=7,
    # One size a map, the finest first: small bones of small children to whole ends.
    anchors=((0.06,), (0.12,), (0.17,), (0.24,), (0.4,)),
    optim=Optim("sgd", lr=5e-3, weight_decay=1e-4, momentum=0.9, clip_norm=10.0),
    rate=Schedule("steps", gamma=0.1, milestones=(0.75,), warmup=0.02),
    batch_size=2,
    note="ImageNet trunk and feature pyramid (Lin 2017), as later systems have it",
)
DETECTORS = {"zfnet": ZFNET, "zfnet_four_steps": ZFNET_FOUR_STEPS, "resnet50": RESNET}
"""Detectors by name: ``--set localizer.detector=resnet50`` chooses one, ``--set localizer.detector.<field>`` changes it."""


def detection(detector: Detector = ZFNET, detectors: Mapping[str, Detector] = DETECTORS) -> Detection:
    """How both bones are found, by ``detector`` or by the one of ``detectors`` that ``--set`` names."""
    return Detection(detector, read, drawn_boxes, write_boxes, show, detectors)


def read(path: Path) -> np.ndarray:
    """Gray levels of a raw file, uint8 [height, width]; Unreadable as :func:`radstack.images.radiograph.read_picture`."""
    return read_picture(path)[0]


def drawn_boxes(rows: pd.DataFrame) -> np.ndarray:
    """Hand-made boxes of index rows, float64 [rows, bones, 4] in raw pixels; NaN where there are none."""
    return rows[BOX_COLUMNS].to_numpy(float).reshape(len(rows), len(BONES), 4)


def found_boxes(rows: pd.DataFrame) -> np.ndarray:
    """Found boxes of rows of the localization table, float64 [rows, bones, 4] in raw pixels."""
    return rows[FOUND].to_numpy(float).reshape(len(rows), len(BONES), 4)


def boxes_of(row: Any) -> Iterator[np.ndarray]:
    """Found and hand-made boxes of one row of it, each float64 [bones, 4]."""
    for columns in (FOUND, BOX_COLUMNS):
        yield np.array([getattr(row, name) for name in columns], float).reshape(len(BONES), 4)


def write_boxes(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``mirrored``: 1 where the ulna lies right of the radius, as in a right hand seen like a left one.

    Medial and lateral follow the bones, so that such a crop is flipped and every network sees the ulna on one side.
    """
    center = found_boxes(rows)[..., [0, 2]].mean(axis=2)
    return rows.assign(mirrored=(center[:, 1] > center[:, 0]).astype(np.int8))


def crops(paths: Paths, row: Any, cache: CacheRecipe) -> np.ndarray:
    """What is cached of a row of the localization table: uint8 of :data:`competitions.radius_ulna.views.STORED`."""
    picture = read(paths.input / row.path)
    found, drawn = boxes_of(row)
    made = [*found, *np.where(np.isfinite(drawn), drawn, found)]
    return np.hstack([crop(picture, box, bool(row.mirrored)) for box in made])


def crop(picture: np.ndarray, box: np.ndarray, mirrored: bool) -> np.ndarray:
    """Cut ``box`` [4] (raw pixels, edges) with its padding, black outside: uint8 of ``CROP``; flipped where mirrored.

    Pillow takes boxes between pixels and counts every pixel by its area where it shrinks.
    """
    margin = PADDING * np.array([box[2] - box[0], box[3] - box[1]])
    low, high = box[:2] - margin, box[2:] + margin
    # Room for what reaches outside, at least a pixel on each side.
    room = int(np.ceil(max(1.0, -low.min(), (high - picture.shape[::-1]).max())))
    image = Image.fromarray(np.pad(picture, room))
    where = (*(low + room).tolist(), *(high + room).tolist())
    cut = np.asarray(image.resize(CROP[::-1], Image.Resampling.BICUBIC, box=where))
    return np.ascontiguousarray(cut[:, ::-1]) if mirrored else cut


def show(picture: np.ndarray, row: Any, file: Path) -> None:
    """Draw a raw picture with the found boxes and the hand-made ones, if any."""
    from competitions.radius_ulna.pictures import boxed

    found, drawn = boxes_of(row)
    boxed(picture, found, file, drawn=drawn, note=row.flag)


