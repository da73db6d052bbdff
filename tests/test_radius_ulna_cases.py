"""A wrist on the report's page: boxes, crops and phases, as far as they are there."""

from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd

from competitions import load
from competitions.radius_ulna.cases import label, view
from competitions.radius_ulna.index import BOX_COLUMNS, index_new
from competitions.radius_ulna.localizer import FOUND
from competitions.radius_ulna.phases import ALL_TARGETS, LEARNED, TARGETS
from competitions.radius_ulna.pictures import annotated
from competitions.radius_ulna.report import findings_of
from competitions.radius_ulna.views import STORED
from radstack.images.shards import shard_path, write_shard
from radstack.report.cases import Case
from radstack.running.cli import make_context
from radstack.running.context import Options

BOXES = (60.0, 100, 90, 150, 30, 105, 55, 150)
FINAL = SimpleNamespace(final="final")


def one_case(tmp_path) -> Case:
    """R7 and U8, of which the models are sure; ``ulna`` does not answer the radius."""
    stages = {f"{bone}_stage": stage for bone, stage in (("radius", 7), ("ulna", 8))}
    hot = {name: float(stage == stages[f"{bone}_stage"]) for bone in TARGETS
           for name, stage in zip(TARGETS[bone], LEARNED[bone])}
    cv2.imwrite(str(tmp_path / "a.png"), np.tile(np.arange(120, dtype=np.uint8), (200, 1)))
    rows, _ = index_new(tmp_path, 1, tmp_path / "parts", pd.DataFrame())
    row = rows.assign(
        **{**stages, **hot}, **dict(zip(FOUND, BOXES)), **dict.fromkeys(BOX_COLUMNS, np.nan), score_radius=0.9,
        score_ulna=np.nan, flag="ulna not found", mirrored=0, shard=0, slot=0)
    sure = np.array([[hot[name] for name in ALL_TARGETS]], np.float32)
    alone = sure.copy()
    alone[:, :len(TARGETS["radius"])] = np.nan
    return Case("a", ("worst",), (), 0, 1.0, 0.0, row, {"ulna": alone, "joint": sure, "final": sure})


def test_what_is_missing_is_left_out(tmp_path):
    paths = make_context(load("radius_ulna", demo=True), Options(data_dir=str(tmp_path), out_dir=str(tmp_path))).paths
    case = one_case(tmp_path)
    assert [label(case.rows.iloc[0], bone) for bone in TARGETS] == ["R7 (peak)", "U8 (mature)"]
    phases, = view(case, FINAL, paths)
    assert phases.svg.count(">ulna<") == 1 and phases.svg.count(">joint<") == 2  # of the bones they answer
    paths.input.mkdir(parents=True)
    cv2.imwrite(str(paths.input / "a.png"), np.tile(np.arange(120, dtype=np.uint8), (200, 1)))
    write_shard(shard_path(paths.cache, 0), [lambda: np.full(STORED, 90, np.uint8)], STORED, "uint8")
    radiograph, crops, _ = view(case, FINAL, paths)
    assert "dotted" not in radiograph.caption and "by hand" not in crops.caption
    boxed = case.rows.assign(**dict(zip(BOX_COLUMNS, BOXES)))
    radiograph, crops, _ = view(Case(**{**vars(case), "rows": boxed}), FINAL, paths)
    assert "dotted" in radiograph.caption and "by hand" in crops.caption and len(radiograph.src) < 160_000
    assert [block.kind for block in view(case, None, paths)] == ["picture"]  # the final model is not predicted yet


def test_an_annotated_picture_is_a_png_whatever_its_shape(tmp_path):
    case = one_case(tmp_path)
    findings = findings_of(case.rows.iloc[0], pd.Series(case.predicted["final"][0], ALL_TARGETS))
    for shape in ((400, 240), (240, 400)):
        annotated(np.full(shape, 90, np.uint8), findings, tmp_path / "out.png", "a.png")
        made = cv2.imread(str(tmp_path / "out.png"))
        assert made.std() > 5 and made.shape[1] > 700
