"""What the demo's system says of hands it never saw: copies of its test hands that must get the same age, or any folder.

A copy is inverted, mirrored, or rotated by 20 degrees. The claim: the same age within 2 months (median).
With --folder, the pictures of a folder are localized and their ages printed; with the labels of --labels (id,boneage,male)
beside them. Real radiographs are far from phantoms: look at the flags and the pictures.

command  python benchmarks/bone_age_others.py [--data DIR]                    after: bash run_all.sh bone_age --demo
         python benchmarks/bone_age_others.py --folder PICTURES --labels CSV --show
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
from competitions.bone_age.localizer import similarity
from radstack.images.dicom import Unreadable
from radstack.images.radiograph import read, read_header
from radstack.images.shards import Shards
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.stages.apply import apply

DEGREES = 20


def rotated(image: np.ndarray) -> np.ndarray:
    """The picture turned by 20 degrees on a larger canvas, so that nothing is cut off."""
    height, width = image.shape
    side = int(np.ceil(np.hypot(height, width)))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), DEGREES, 1.0)
    matrix[:, 2] += (side - 1) / 2 - np.array([(width - 1) / 2, (height - 1) / 2])
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=int(np.median(image[:5])))


COPIES = {"same": lambda image: image, "inverted": lambda image: 255 - image, "mirrored": lambda image: image[:, ::-1],
          "rotated": rotated}


def main() -> None:
    """Apply and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", default=".", help="where run_all.sh bone_age --demo has run")
    arguments.add_argument("--folder", default="", help="folder with PNG files")
    arguments.add_argument("--labels", default="", help="CSV with id,boneage,male of the pictures in --folder")
    arguments.add_argument("--show", default="", metavar="DIR", help="draw the steps of each picture into DIR")
    args = arguments.parse_args()
    context = make_context(load("bone_age", demo=True), Options(data_dir=args.data, out_dir=args.data, device="cpu"))
    with tempfile.TemporaryDirectory() as name:
        if args.folder:
            other_folder(context, Path(args.folder), Path(args.labels), Path(name), args.show)
        else:
            copies(context, Path(name))


def copies(context: Context, out: Path) -> None:
    """Print how far the copies' ages are from the originals'."""
    index = pd.read_parquet(context.paths.folds / "index.parquet")
    test = index[index["split"] == "test"]
    rows = []
    for one in test.to_dict("records"):
        image = read(context.paths.input / one["path"])
        for kind, change in COPIES.items():
            rows.append(write(out / "pictures", f"{one['id']}-{kind}", change(image), one["male"]))
    _, ages = apply(context, out / "pictures", pd.DataFrame(rows), out / "made")
    for model in ("regression_own", "final"):
        parts = ages[model]["id"].str.rsplit("-", n=1, expand=True)
        table = ages[model].assign(hand=parts[0], kind=parts[1]).pivot(index="hand", columns="kind", values="boneage")
        for kind in ("inverted", "mirrored", "rotated"):
            apart = (table[kind] - table["same"]).abs()
            print(f"{model}, {kind}: median {apart.median():.2f} months, 90 % within {apart.quantile(0.9):.2f}, "
                  f"of {len(apart)} hands")


def other_folder(context: Context, folder: Path, labels: Path, out: Path, show: str) -> None:
    """Print flag and age of each picture of a folder."""
    known = pd.read_csv(labels, dtype={"id": str}).set_index("id")
    rows = []
    for path in sorted(folder.rglob("*.png")):
        try:
            rows.append(index_row(path.stem, str(path.relative_to(folder)), path, int(known.loc[path.stem, "male"])))
        except Unreadable as error:
            print(f"{path.name}: {error.reason}")
    found, ages = apply(context, folder, pd.DataFrame(rows), out)
    for row in found.merge(ages["final"], on="id", suffixes=("", "_final")).itertuples():
        print(f"{row.id}: flag '{row.flag}', mirrored {row.mirrored}, inverted {row.inverted}, scale "
              f"{similarity(row).scale:.2f}, age {row.boneage_final:.0f}, label {known.loc[row.id, 'boneage']}")
    if show:
        draw(context, found, folder, out, Path(show))


def draw(context: Context, found: pd.DataFrame, folder: Path, out: Path, show: Path) -> None:
    """The steps of each picture."""
    cache = out / "cache" / context.competition.name
    prepared, maps = Shards(cache / "prepared"), Shards(cache / "maps")
    paths = make_context(context.competition, Options(data_dir=str(out), out_dir=str(out))).paths
    for row in found.itertuples():
        place = int(row.map_shard), int(row.map_slot)
        context.competition.localizer.show(paths, row, prepared(*place), maps(*place), show / f"{row.id}.png")


def write(folder: Path, name: str, image: np.ndarray, male: int) -> dict[str, object]:
    """Write a picture; its index row."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    cv2.imwrite(str(path), np.ascontiguousarray(image))
    return index_row(name, path.name, path, male)


def index_row(name: str, relative: str, path: Path, male: int) -> dict[str, object]:
    """The row of a picture without label or annotation, as stage 01 would make it."""
    header = read_header(path)
    points = {f"p{point}{axis}": np.nan for point in (1, 2, 3) for axis in "xy"}
    return {"id": name, "split": "test", "group": name, "series": name, "position": 0, "path": relative, "boneage": np.nan,
            "male": male, "height": header.height, "width": header.width, "bits": header.bits, "channels": header.channels,
            "mask": "", **points}


if __name__ == "__main__":
    main()
