"""From a radiograph to the canonical frame: hand mask, contrast, three landmarks, similarity with reflection."""

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from competitions.bone_age import frame
from competitions.bone_age.annotations import is_annotated
from radstack.core.paths import Paths
from radstack.core.recipe import change
from radstack.images import masks
from radstack.images.radiograph import even, prepare, read
from radstack.images.similarity import Similarity, resized, warp
from radstack.images.views import Whole, middle
from radstack.recipes.competition import CacheRecipe, Plain
from radstack.recipes.experiment import Backbone, Experiment, Op, Optim, Schedule, Train
from radstack.recipes.localizer import Chain, Step, has_mask
from radstack.recipes.losses import HeatMaps, Jaccard, Points
from radstack.stages.chain import maps_of

LANDMARKS = ("tip", "thumb", "capitate")
"""Tip of the third distal phalanx, tip of the thumb's, center of the capitate (P1, P2, P3 of Iglovikov et al. 2018)."""
COARSE = tuple(f"coarse_{point}_{axis}" for point in LANDMARKS for axis in "xy")
"""Columns of the first landmark network's answers, -1 to 1 across the small picture."""
FINE = tuple(f"{point}_{axis}" for point in LANDMARKS for axis in "xy")
"""Columns of the second landmark network's answers, likewise."""
ADVICE = ("nobody annotated a hand, so whole pictures are used as they are; with masks and landmarks of about 100 hands "
          "networks learn to register the others, and the ages of regions of the hand come to those of the whole picture "
          "(docs/add_your_own.md)")
"""What stage 02 says where there are no annotations."""
MATRIX = ("m00", "m01", "m02", "m10", "m11", "m12")
"""Columns of the similarity from raw pixels to the canonical frame."""
LENGTH = 500.0
"""Unit of ``hand_length``, pixels of the raw picture from fingertip to capitate: registration takes the size away, which
grows with age. Of 734 real hands at half resolution it is 0.4 to 1.8 and correlates with age by 0.61."""

HAND_MASK = Experiment(
    name="hand_mask",
    view=Whole((512, 512)),
    backbone=Backbone("radstack/unet", pretrained=False, args={"widths": (32, 64, 128, 256, 512, 512)}),
    augment=(
        Op("HorizontalFlip", {"p": 0.5}),
        Op("Affine", {"translate_percent": (-0.1, 0.1), "scale": (0.8, 1.2), "rotate": (-30, 30), "mask_interpolation": 1,
                      "p": 1.0}),
        Op("RandomGamma", {"gamma_limit": (50, 200), "p": 0.5}),
        Op("InvertImg", {"p": 0.15}),
    ),
    loss=Jaccard(),
    optim=Optim("adam", lr=1e-3),
    schedule=Schedule("cosine", warmup=1.0, floor=0.01),
    train=Train(epochs=60, batch_size=8, precision="bf16"),
    note="U-Net with batch norm and H - log J of Iglovikov et al. 2018, who leave size, length and augmentation open",
)

HAND_LANDMARKS = change(
    HAND_MASK,
    name="hand_landmarks",
    view=Whole((256, 256)),
    backbone=Backbone("radstack/vgg_elu", pretrained=False,
                      args={"size": (256, 256), "second": 3, "dense": (512, 512), "dropout": 0.0}),
    augment=(
        Op("HorizontalFlip", {"p": 0.5}),
        Op("Affine", {"translate_percent": (-0.1, 0.1), "scale": (0.8, 1.2), "rotate": (-30, 30), "p": 1.0}),
        Op("RandomGamma", {"gamma_limit": (80, 120), "p": 0.5}),
    ),
    loss=Points(),
    optim__lr=3e-4,
    train=Train(epochs=200, batch_size=16, precision="fp32"),
    note="as Iglovikov et al. 2018: VGG blocks of two convolutions, ELU, batch norm, mean squared error, Adam, at 1/8 "
         "scale; widths are those of the age network",
)

HAND_LANDMARKS_FINE = change(
    HAND_MASK,
    name="hand_landmarks_fine",
    augment=(
        Op("Affine", {"translate_percent": (-0.08, 0.08), "scale": (0.88, 1.12), "rotate": (-12, 12), "p": 1.0}),
        Op("RandomGamma", {"gamma_limit": (80, 120), "p": 0.5}),
    ),
    loss=HeatMaps(),
    note="a second look at the hand that the first network registered, so that five fingertips are not alike any more; "
         "Iglovikov et al. 2018 have no such step (DECISIONS.md)",
)


def small_hand(folder: Path, rows: pd.DataFrame, side: int) -> tuple[np.ndarray, dict[str, float]]:
    """The radiograph of the one row in ``rows`` as :func:`radstack.images.radiograph.prepare` shrinks it."""
    small, place = prepare(folder / rows["path"].iloc[0], side)
    return small[None], place


def even_hand(folder: Path, rows: pd.DataFrame, side: int) -> tuple[np.ndarray, dict[str, float]]:
    """:func:`small_hand` with :func:`radstack.images.radiograph.even` contrast, so that faint films look like the others.

    What was padded to a square stays 0.
    """
    small, place = prepare(folder / rows["path"].iloc[0], side)
    film = middle(small, (rows["height"].iloc[0], rows["width"].iloc[0]))
    film[:] = even(film)
    return small[None], place


class Masks:
    """Hand-made masks by row number, float32 [seen, seen]: the share of each pixel that is hand; zeros without a mask."""

    def __init__(self, folder: Path, rows: pd.DataFrame, side: int, seen: int) -> None:
        """Point at ``input/<comp>``; each mask is read once. ``seen`` is the side that the network sees."""
        self.folder, self.side = folder, seen
        self.names = rows["mask"].to_numpy()
        self.kept: dict[int, np.ndarray] = {}

    def __getitem__(self, row: int) -> np.ndarray:
        """The mask of one row."""
        if row not in self.kept:
            name, empty = self.names[row], np.zeros((self.side, self.side), np.uint8)
            self.kept[row] = prepare(self.folder / name, self.side)[0] if name else empty
        return self.kept[row].astype(np.float32) / 255


def has_points(rows: pd.DataFrame) -> np.ndarray:
    """Who has all three landmarks."""
    return rows[[f"p{point}{axis}" for point in (1, 2, 3) for axis in "xy"]].notna().all(axis=1).to_numpy()


def to_small(scale: float, offset_x: float, offset_y: float) -> np.ndarray:
    """Matrix [2, 3] from raw pixels to those of the small picture."""
    return np.array([[scale, 0, offset_x], [0, scale, offset_y]])


def point_labels(folder: Path, rows: pd.DataFrame, side: int) -> np.ndarray:
    """Landmarks of ``rows``, float32 [rows, 6] from -1 to 1 across the small picture."""
    raw = rows[[f"p{point}{axis}" for point in (1, 2, 3) for axis in "xy"]].to_numpy(float).reshape(-1, 3, 2)
    small = raw * rows["scale"].to_numpy()[:, None, None] + rows[["offset_x", "offset_y"]].to_numpy()[:, None]
    return to_unit(small, side)


def to_unit(pixels: np.ndarray, side: int) -> np.ndarray:
    """Points [..., 3, 2] in pixels to float32 [..., 6] from -1 to 1 between the centers of the outermost pixels."""
    return (2 * pixels / (side - 1) - 1).reshape(*pixels.shape[:-2], 6).astype(np.float32)


def to_pixels(unit: np.ndarray, side: int) -> np.ndarray:
    """Undo :func:`to_unit`."""
    return (unit.reshape(*unit.shape[:-1], 3, 2) + 1) * (side - 1) / 2


def coarse_way(unit: np.ndarray, side: int) -> Similarity:
    """From the small picture to the picture of the second look: the frame, as high as the small picture."""
    registered = frame.register(to_pixels(unit, side), (side, side))
    return resized(side / frame.FRAME[0]).after(registered.transform)


def coarse_hand(picture: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The small picture in the frame that the first network's landmarks ``unit`` (float [6]) say."""
    return warp(picture, coarse_way(unit, len(picture)), picture.shape)


def fine_labels(folder: Path, rows: pd.DataFrame, side: int) -> np.ndarray:
    """Landmarks of ``rows`` in the picture of the second look, float32 [rows, 6] from -1 to 1."""
    small = to_pixels(point_labels(folder, rows, side), side)
    ways = [coarse_way(unit, side) for unit in rows[list(COARSE)].to_numpy(float)]
    return np.stack([to_unit(way.apply(points), side) for way, points in zip(ways, small)])


def fine_back(rows: pd.DataFrame, answers: np.ndarray, side: int) -> np.ndarray:
    """The second look's answers, float32 [rows, 6], in the small picture."""
    ways = [coarse_way(unit, side).inverse() for unit in rows[list(COARSE)].to_numpy(float)]
    return np.stack([to_unit(way.apply(points), side) for way, points in zip(ways, to_pixels(answers, side))])


def hand_only(picture: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """The hand on black with equal contrast, bones bright: what the landmark network sees."""
    mask = masks.clean(probability).mask
    if not mask.any():
        return picture
    return masks.equalize(255 - picture if masks.is_inverted(picture, mask) else picture, mask)


def write_boxes(row: Any, picture: np.ndarray, maps: np.ndarray) -> dict[str, Any]:
    """Landmarks in raw pixels, their distance, the similarity into the frame, what is wrong (``flag``, "" for nothing)."""
    probability, = maps
    cleaned = masks.clean(probability)
    side, size = len(picture), (row.height, row.width)
    first, small = (to_pixels(np.array([getattr(row, name) for name in names]), side) for names in (COARSE, FINE))
    points = (small - (row.offset_x, row.offset_y)) / row.scale
    registered = frame.register(points, size)
    way = registered.transform.after(Similarity(to_small(row.scale, row.offset_x, row.offset_y)).inverse())
    flag = (frame.judge(cleaned) or registered.reason or frame.misfit(cleaned.mask, small, way)
            or frame.disagree(first, small))
    transform = registered.transform
    if flag:
        transform = frame.unregistered(raw_mask(probability, row), size)
    return {"flag": flag, "registered": int(not flag), "mirrored": bool(registered.mirrored and not flag),
            "parts": cleaned.parts, "inverted": bool(cleaned.mask.any() and masks.is_inverted(picture, cleaned.mask)),
            "hand_length": float(np.nan_to_num(np.linalg.norm(points[0] - points[2]) / LENGTH, nan=1.0)),
            **dict(zip((f"raw_{name}" for name in FINE), points.ravel().tolist())),
            **dict(zip(MATRIX, transform.matrix.ravel().tolist()))}


def as_filed(row: Any, picture: np.ndarray, maps: np.ndarray) -> dict[str, Any]:
    """The columns of :func:`write_boxes` for a picture in which nothing was looked for: the whole of it fills the frame."""
    transform = frame.unregistered(None, (row.height, row.width))
    return {"flag": "", "registered": 0, "mirrored": False, "parts": 0, "inverted": False, "hand_length": 1.0,
            **dict.fromkeys((f"raw_{name}" for name in FINE), np.nan),
            **dict(zip(MATRIX, transform.matrix.ravel().tolist()))}


def raw_mask(probability: np.ndarray, row: Any) -> np.ndarray:
    """The cleaned mask in raw pixels, bool [height, width]; its edge is where the probability passes one half."""
    mask = masks.clean(probability).mask
    kept = np.where(mask, np.maximum(probability, 128), np.minimum(probability, 127))
    matrix = to_small(row.scale, row.offset_x, row.offset_y)
    size = (int(row.width), int(row.height))
    return cv2.warpAffine(kept, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) > 127


def found_mask(paths: Paths, row: Any) -> np.ndarray:
    """:func:`raw_mask` of a row of the localization table."""
    return raw_mask(maps_of(paths, row)[0], row)


def similarity(row: Any) -> Similarity:
    """The similarity from raw pixels into the frame that ``row`` of the localization table holds."""
    return Similarity(np.array([getattr(row, name) for name in MATRIX], float).reshape(2, 3))


def registered_hand(paths: Paths, row: Any, cache: CacheRecipe) -> np.ndarray:
    """The hand in the canonical frame at the cache's scale, uint8 [height, width], background 0."""
    raw = read(paths.input / row.path)
    whole = found_mask(paths, row) if row.parts else np.ones(raw.shape, bool)
    return frame.place(raw, whole, bool(row.inverted), similarity(row), cache.size[0] / frame.FRAME[0])


def show(paths: Paths, row: Any, picture: np.ndarray, maps: np.ndarray, file: Path) -> None:
    """Draw every step of one hand side by side."""
    from competitions.bone_age.pictures import strip

    probability, = maps
    cleaned = masks.clean(probability).mask
    turned = 255 - picture if row.inverted else picture
    equal = hand_only(picture, probability)
    points = np.array([getattr(row, f"raw_{name}") for name in FINE]).reshape(3, 2)
    small = points * row.scale + (row.offset_x, row.offset_y)
    registered = registered_hand(paths, row, CacheRecipe((520, 400), 0, (), "uint8"))
    strip({"input": picture, "mask": probability, "cleaned": np.where(cleaned, turned, 0), "equalized": equal,
           "landmarks": equal, "registered": registered, **frame.cut(registered, 0.25)}, file, points=small, note=row.flag)


def unannotated(side: int, *networks: Experiment, even: bool = False) -> Plain:
    """The way of a data set without annotations: small pictures of ``side`` pixels, and ``networks`` that see the film.

    ``even``: the pictures have even contrast.
    """
    whole = Chain(side, even_hand if even else small_hand, (), as_filed, show, advice=ADVICE)
    return Plain(is_annotated, {
        "localizer": whole, "models__on_call": (),
        "models__experiments": networks, "models__stackers": (), "models__final": networks[0].name})


def chain(side: int, mask: Experiment = HAND_MASK, coarse: Experiment = HAND_LANDMARKS,
          fine: Experiment = HAND_LANDMARKS_FINE, even: bool = False) -> Chain:
    """The three networks on small pictures of ``side`` pixels, which each may shrink further; ``even``: of even contrast."""
    return Chain(
        side=side, prepare=even_hand if even else small_hand, write_boxes=write_boxes, show=show,
        steps=(Step(mask, has_mask, partial(Masks, seen=mask.view.size[0]), follow=hand_only),
               Step(coarse, has_points, point_labels, COARSE, follow=coarse_hand),
               Step(fine, has_points, fine_labels, FINE, back=fine_back)))
