"""From a volume to bones: crop, even light, gray levels, then four masks of every slice by networks (Pietz 2018)."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from competitions.knee_age import volume
from competitions.knee_age.volume import BONES, Box
from radstack.core.paths import Paths
from radstack.core.recipe import change
from radstack.images.views import Whole
from radstack.images.volumes import read_header, read_volume
from radstack.recipes.competition import CacheRecipe
from radstack.recipes.experiment import Backbone, Experiment, Op, Optim, Train
from radstack.recipes.localizer import Chain, Step, has_mask
from radstack.recipes.losses import Dice
from radstack.stages.chain import small_of

MASKS = ("bone", *BONES)
"""What the four networks find: all bones as one, and each alone. One network of three outputs finds no fibula (3.4 % of the
bone) at all, which is why Pietz 2018 trains three."""
ZERO, LEVELS = 96, 32
"""Gray level of the volume's mean, and levels a standard deviation: uint8 then holds -3 to +5 of them, in steps a third of
the noise."""
THRESHOLD = 0.3
"""Of the probability, for a pixel of bone (code of Pietz 2018)."""
LEAST = {"bone": 1000 / 224**2, "femur": 500 / 224**2, "tibia": 500 / 224**2, "fibula": 0.0}
"""Summed probability, as a share of the frame, below which a slice shows none of it; the fibula is small in itself."""

BONE_MASK = Experiment(
    name="bone_mask",
    view=Whole((224, 224), mean=(ZERO,), std=(LEVELS,)),
    backbone=Backbone("radstack/unet_sum", pretrained=False),
    # Shifts by 24 of 224 pixels, from left to right only: a flip hurt (Pietz 2018). What comes in is the minimum.
    augment=(Op("Affine", {"translate_px": {"x": (-24, 24), "y": 0}, "scale": 1.0, "rotate": 0, "shear": 0, "p": 1.0}),),
    loss=Dice(),
    optim=Optim("adam", lr=1e-3),
    train=Train(epochs=40, batch_size=48, precision="fp16"),
    note="model A of Pietz 2018, 194,561 parameters, for all bones as one; its 30 to 60 epochs end at a fixed 40",
)


BONE_MASKS = (BONE_MASK, *(change(BONE_MASK, name=f"{bone}_mask", note="likewise, for one bone") for bone in BONES))
"""In the order of ``MASKS``."""


def prepare(folder: Path, rows: pd.DataFrame, side: int, shrink: int = 4) -> tuple[np.ndarray, dict[str, Any]]:
    """The square around the joint of one volume, its bias field divided out, as gray levels by ``ZERO`` and ``LEVELS``.

    Args:
        folder: ``input/<comp>``.
        rows: the volume's index rows.
        side: of the square, in pixels.
        shrink: of :func:`competitions.knee_age.volume.n4`.

    Returns:
        uint8 [slices, side, side], and where the square was cut: ``top``, ``left``, ``box_side`` in pixels of the volume.

    Raises:
        Unreadable: as :func:`radstack.images.volumes.read_volume`.
    """
    first = rows.iloc[0]
    raw = read_volume(folder / first["path"])
    pixels, box = volume.crop(raw.pixels, first["source"], side)
    across, down, along = raw.spacing
    even = volume.n4(pixels, (across, down * box.side / side, along * box.side / side), shrink)
    return to_gray(volume.normalize(even)), {"top": box.top, "left": box.left, "box_side": box.side}


def to_gray(normalized: np.ndarray) -> np.ndarray:
    """Standard deviations from the mean as uint8 gray levels, same shape."""
    return np.clip(np.rint(normalized * LEVELS + ZERO), 0, 255).astype(np.uint8)


def made_masks(folder: Path, rows: pd.DataFrame, side: int, mask: str, seen: int = 0) -> np.ndarray:
    """Hand-made masks of one of ``MASKS``, uint8 0/1 [rows, side, side]; empty where a volume has none.

    ``seen`` is the side that the network sees, if not that of the small pictures.
    """
    side = seen or side
    made = np.zeros((len(rows), side, side), np.uint8)
    for _, own in rows.reset_index(drop=True).groupby("series"):
        if own["mask"].iloc[0]:
            bones = own_masks(folder, own.iloc[0], side)
            places = range(len(BONES)) if mask == "bone" else [BONES.index(mask)]
            made[own.index] = bones[np.ix_(places, own["position"])].any(axis=0)
    return made


def own_masks(folder: Path, row: Any, side: int) -> np.ndarray:
    """The label volume of a localized row on the square that was cut, bool [bones, slices, side, side]."""
    bones = volume.read_masks(folder / row["mask"], read_header(folder / row["path"]))
    return volume.cut_masks(bones, Box(int(row["top"]), int(row["left"]), int(row["box_side"])), side)


def cleaned(maps: np.ndarray) -> np.ndarray:
    """Probability maps uint8 [masks, side, side], those of slices that hardly show the bone set to 0."""
    share = maps.mean(axis=(1, 2)) / 255
    least = np.array([LEAST[mask] for mask in MASKS])
    return maps * (share >= least)[:, None, None].astype(np.uint8)


def binary(maps: np.ndarray) -> np.ndarray:
    """Masks bool [masks, side, side] of :func:`cleaned` maps."""
    return cleaned(maps) >= THRESHOLD * 255


def write_boxes(row: Any, picture: np.ndarray, maps: np.ndarray) -> dict[str, Any]:
    """Share of the frame that each mask takes (``area_bone`` ...), whether the slice is ``central``, and a flag if no bone
    was found in the middle third of those, where every knee has some.
    """
    areas = binary(maps).mean(axis=(1, 2))
    numbers = volume.central(int(row.slices))
    middle = numbers[len(numbers) // 3:-(len(numbers) // 3)]
    flag = "no bone" if row.position in middle and not areas[0] else ""
    return {"flag": flag, "central": bool(row.position in numbers),
            **{f"area_{mask}": float(area) for mask, area in zip(MASKS, areas)}}


def planes(paths: Paths, row: Any, cache: CacheRecipe) -> np.ndarray:
    """What is cached of a slice: picture and the cleaned maps of ``MASKS``, side by side, uint8 [side, 5 * side]."""
    picture, maps = small_of(paths, row)
    return np.concatenate([picture, *cleaned(maps)], axis=1)


def show(paths: Paths, row: Any, picture: np.ndarray, maps: np.ndarray, file: Path) -> None:
    """Draw a slice with the outlines of what was found in it."""
    from competitions.knee_age.pictures import slice_with_bones

    slice_with_bones(picture, maps, file, note=f"{row.id} {row.flag}")


def chain(side: int, experiments: tuple[Experiment, ...] = BONE_MASKS, shrink: int = 4) -> Chain:
    """One network for each of ``MASKS`` on squares of ``side`` pixels; none sees what another found."""
    steps = (Step(experiment, has_mask, partial(made_masks, mask=name, seen=experiment.view.size[0]))
             for name, experiment in zip(MASKS, experiments, strict=True))
    return Chain(side=side, prepare=partial(prepare, shrink=shrink), write_boxes=write_boxes, show=show, steps=tuple(steps))
