"""What the demo's system says of hands it never saw: copies of its test hands that must get the same age.

A copy is inverted, mirrored, or rotated by 20 degrees. The claim: the same age within 2 months (median). Hands of one's own
are answered by: python src/apply.py bone_age --demo FOLDER answers.csv

command  python benchmarks/bone_age_others.py [--data DIR]                    after: bash run_all.sh bone_age --demo
takes    two minutes
"""

import argparse
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from competitions import load
from radstack.images.radiograph import read
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.running.tables import read_index
from radstack.stages.apply import answers, apply

DEGREES = 20


def rotated(image: np.ndarray) -> np.ndarray:
    """The picture turned by 20 degrees on a larger canvas, so that nothing is cut off."""
    height, width = image.shape
    side = int(np.ceil(np.hypot(height, width)))
    matrix = np.asarray(cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), DEGREES, 1.0), np.float64)
    matrix[:, 2] += (side - 1) / 2 - np.array([(width - 1) / 2, (height - 1) / 2])
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=int(np.median(image[:5])))


COPIES = {"same": lambda image: image, "inverted": lambda image: 255 - image, "mirrored": lambda image: image[:, ::-1],
          "rotated": rotated}


def main() -> None:
    """Apply and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", default=".", help="where run_all.sh bone_age --demo has run")
    args = arguments.parse_args()
    context = make_context(load("bone_age", demo=True), Options(data_dir=args.data, out_dir=args.data, device="cpu"))
    with tempfile.TemporaryDirectory() as name:
        copies(context, Path(name))


def copies(context: Context, out: Path) -> None:
    """Print how far the copies' ages are from the originals'."""
    index = read_index(context)
    rows = [write(out / "pictures", f"{one['id']}-{kind}", change(read(context.paths.input / one["path"])), one["male"])
            for one in index[index["split"] == "test"].to_dict("records") for kind, change in COPIES.items()]
    there = apply(context, out / "pictures", out / "made", pd.DataFrame(rows))
    ages = answers(there, by_picture=True)
    parts = ages["id"].str.rsplit("-", n=1, expand=True)
    table = ages.assign(hand=parts[0], kind=parts[1]).pivot(index="hand", columns="kind", values="boneage")
    for copy in ("inverted", "mirrored", "rotated"):
        apart = (table[copy] - table["same"]).abs()
        print(f"final, {copy}: median {apart.median():.2f} months, 90 % within {apart.quantile(0.9):.2f}, "
              f"of {len(apart)} hands")


def write(folder: Path, name: str, image: np.ndarray, male: int) -> dict[str, str]:
    """Write a picture; the row of the table that stands beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.png"), np.ascontiguousarray(image))
    return {"id": name, "male": str(male)}


if __name__ == "__main__":
    main()
