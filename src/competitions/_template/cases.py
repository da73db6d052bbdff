"""One case in the report's browser: pictures and plots of it, as blocks of ``radstack.report.blocks``."""

import cv2
import numpy as np

from radstack.core.paths import Paths
from radstack.images.shards import Shards
from radstack.recipes.competition import Cases
from radstack.report.blocks import Block, Picture
from radstack.report.cases import Case
from radstack.report.images import data_uri

SHOWN = 224
"""Pixels of a side on the page."""


def view(case: Case, cases: Cases, paths: Paths) -> list[Block]:
    """The cached crop of a picture with a circle of the predicted diameter around its center."""
    row, final = case.rows.iloc[0], float(case.predicted[cases.final][0, 0])
    cached = Shards(paths.cache)(int(row["shard"]), int(row["slot"]))
    picture = cv2.resize(cached, (SHOWN, SHOWN), interpolation=cv2.INTER_LINEAR)
    if np.isfinite(final):
        radius = round(max(final, 0.0) / 2 * SHOWN / len(cached))  # a pixel of the cache is 1 mm
        picture = cv2.circle(np.repeat(picture[..., None], 3, axis=2), (SHOWN // 2, SHOWN // 2), radius, (255, 160, 0), 1)
    label = f", label {row['diameter']:.1f} mm" if case.labeled else ""
    caption = f"The cached picture; circle: {final:.1f} mm by {cases.final}{label}."
    return [Picture(data_uri(picture), caption)]
