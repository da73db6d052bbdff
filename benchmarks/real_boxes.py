"""The detector of radius_ulna on real hands: boxes out of fold beside those that people drew.

The hands of bone_age_real with boxes of both bones are the pictures. Their stages are not known: five ages stand in for
them, only to deal the folds, and no network of stages is trained. Other readers' boxes (roi_boxes.csv) are never learned.

command  RADSTACK_REAL_DATA=DATA python benchmarks/real_boxes.py [--work FOLDER] [--jobs 2]
takes    about ten minutes on two cores
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from competitions import load
from competitions.radius_ulna.localizer import found_boxes
from competitions.radius_ulna.phases import BONES
from radstack.core.files import write_table
from radstack.images.boxes import CORNERS, center_errors, iou
from radstack.running.cli import make_context
from radstack.running.context import Options

RECIPES = ["radius_ulna", "--recipes", "small"]
STAGES = [f"R{5 + step}" for step in range(5)], [f"U{4 + step}" for step in range(5)]
"""That stand in for the unknown ones."""
KEY = ["id", "bone"]


def main() -> None:
    """Lay out, train, compare."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--work", default="/tmp/real_boxes", help="where everything is made")
    arguments.add_argument("--jobs", default="2")
    args = arguments.parse_args()
    work, data = Path(args.work), Path(os.environ["RADSTACK_REAL_DATA"]) / "bone_age_real"
    drawn, others = edges(data / "annotations" / "radius_ulna_boxes.csv"), edges(data / "roi_boxes.csv")
    lay_out(work / "input" / "radius_ulna", data, drawn, sorted({*drawn["id"], *others["id"]}))
    where = ["--data-dir", str(work), "--out-dir", str(work)]
    for stage, *options in (("01_make_folds",), ("02_localize", "--jobs", args.jobs)):
        subprocess.run([sys.executable, str(ROOT / "src" / f"{stage}.py"), *RECIPES, *where, *options], check=True)
    found, lengths = boxes_found(work), hand_lengths(data / "annotations" / "landmarks.csv")
    compare("found, beside the boxes learned from, out of fold", found, drawn, lengths)
    for reader, own in others.groupby("reader"):
        compare(f"found, beside {reader}", found, own, lengths)
        for second, other in others.groupby("reader"):
            if second > reader:
                compare(f"{second}, beside {reader}", other, own, lengths)
        compare(f"learned from, beside {reader}", drawn, own, lengths)


def edges(file: Path) -> pd.DataFrame:
    """Boxes of radius and ulna in a table of ``bone_age_real``: its columns, ``bone`` and corners as edges."""
    table = pd.read_csv(file, dtype={"id": str})
    table = table[table["label"].isin(["Radius", "Ulna"])]
    return table.rename(columns=dict(zip(["xmin", "ymin", "xmax", "ymax"], CORNERS))).assign(bone=table["label"].str.lower())


def lay_out(folder: Path, data: Path, drawn: pd.DataFrame, ids: list[str]) -> None:
    """Write the input folder of radius_ulna: links to the pictures that the training part has, boxes, stand-in stages."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    ages = pd.read_csv(data / "boneage-training-dataset.csv", dtype={"id": str}).set_index("id")["boneage"]
    known = [one for one in ids if one in ages.index]
    for one in known:
        link = folder / "pictures" / f"{one}.jpg"
        if not link.exists():
            link.symlink_to(data / "boneage-training-dataset" / link.name)
    step = pd.qcut(ages[known].rank(method="first"), 5, labels=False).to_numpy()
    table = pd.DataFrame({"file": [f"pictures/{one}.jpg" for one in known], "child": known,
                          "radius_stage": np.array(STAGES[0])[step], "ulna_stage": np.array(STAGES[1])[step]})
    write_table(folder / "labels.csv", table)
    write_table(folder / "boxes.csv", drawn.assign(file=drawn["id"] + ".jpg")[["file", "bone", *CORNERS]])


def boxes_found(work: Path) -> pd.DataFrame:
    """What stage 02 found: ``id``, ``bone`` and corners."""
    paths = make_context(load("radius_ulna-small"), Options(data_dir=str(work), out_dir=str(work))).paths
    rows = pd.read_parquet(paths.cache / "boxes.parquet")
    each = [pd.DataFrame(boxes, columns=CORNERS).assign(id=rows["id"].to_numpy(), bone=bone)
            for bone, boxes in zip(BONES, found_boxes(rows).transpose(1, 0, 2))]
    return pd.concat(each, ignore_index=True)


def hand_lengths(file: Path) -> pd.Series:
    """Distance in pixels from the fingertip to the capitate of each annotated hand."""
    table = pd.read_csv(file, dtype=str)
    places = table["region_shape_attributes"].map(json.loads)
    names = [json.loads(one)["name"] for one in table["region_attributes"]]
    table = pd.DataFrame({"id": table["filename"].str.removesuffix(".jpg"), "point": names,
                          "x": [at["cx"] for at in places], "y": [at["cy"] for at in places]})
    wide = table.pivot(index="id", columns="point", values=["x", "y"])
    return np.hypot(wide["x", "P1"] - wide["x", "P3"], wide["y", "P1"] - wide["y", "P3"])


def compare(title: str, found: pd.DataFrame, truth: pd.DataFrame, lengths: pd.Series) -> None:
    """Print overlap and distance of centers, of each bone, on the hands that both have."""
    both = truth[[*KEY, *CORNERS]].merge(found[[*KEY, *CORNERS]], on=KEY, suffixes=("", "_found"))
    for bone, rows in both.groupby("bone"):
        one, other = rows[CORNERS].to_numpy(float), rows[[f"{name}_found" for name in CORNERS]].to_numpy(float)
        overlap, apart = iou(other, one), center_errors(other, one)
        share = 100 * apart / lengths.reindex(rows["id"]).to_numpy()
        told = "" if np.isnan(share).all() else (f"; centers off by {np.nanmedian(share):.1f} % of the hand (median), 95 % "
                                                 f"within {np.nanquantile(share, 0.95):.1f} %")
        print(f"{title}: {bone}, {len(rows)} hands: IoU {np.median(overlap):.3f} (median), {np.mean(overlap):.3f} (mean), "
              f"lowest {overlap.min():.2f}{told}")


if __name__ == "__main__":
    main()
