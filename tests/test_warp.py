"""One warp in place of an enlargement and several moves: the same draws, the same places, the same outside."""

import random

import albumentations
import cv2
import numpy as np
import pandas as pd
import pytest

from competitions.ich.experiments import RESNEXT101, SE_RESNEXT50
from radstack.core.recipe import change
from radstack.images.shards import Shards, is_turn, resize, shard_path
from radstack.images.views import Channel, Slices
from radstack.images.windows import apply
from radstack.recipes.experiment import Op
from radstack.training.augment import pipeline, transform
from radstack.training.loader import Pictures
from radstack.training.warp import warped

CACHED, SEEN = 200, 240
WINDOWS = ((40.0, 80.0), (80.0, 200.0), (600.0, 2800.0))
VIEW = Slices(tuple(Channel(window) for window in WINDOWS), SEEN, (57.0, 46.4, 64.3), (82.7, 75.4, 79.9))
MOVES = (
    Op("RandomResizedCrop", {"scale": (0.7, 1.0), "ratio": (0.9, 1.1), "p": 0.7}),
    Op("HorizontalFlip", {"p": 0.5}),
    Op("VerticalFlip", {"p": 0.5}),
    Op("Transpose", {"p": 0.5}),
    Op("Rotate", {"limit": 30, "p": 0.5}),
    Op("Affine", {"translate_percent": (-0.05, 0.05), "scale": (0.9, 1.1), "rotate": (-20, 20), "shear": (-5, 5), "p": 0.5}),
)
BRIGHTER = Op("RandomBrightnessContrast", {"brightness_limit": 0.3, "contrast_limit": 0.3, "p": 0.8})


def bound(tmp_path, slices: np.ndarray, view: Slices = VIEW):
    """A reader of one series of int16 [n, side, side]."""
    np.save(shard_path(tmp_path, 0), slices)
    rows = pd.DataFrame({"series": "a", "shard": 0, "slot": range(len(slices))})
    return view.reader(Shards(tmp_path), rows)


def step_by_step(picture: np.ndarray, ops: tuple[Op, ...], seed: int) -> np.ndarray:
    """What albumentations makes of a float picture: without ``pipeline``, which takes bytes alone."""
    chain = albumentations.Compose([transform(op, (SEEN, SEEN)) for op in ops])
    chain.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return chain(image=picture)["image"]


@pytest.mark.parametrize("op", [*MOVES, "all"], ids=lambda op: getattr(op, "name", op))
def test_every_pixel_comes_from_the_same_place(op, tmp_path):
    ops = MOVES if op == "all" else (change(op, args={**op.args, "p": 1.0}),)
    scale = 32767 // CACHED  # of the coordinates, so that int16 tells .01 pixels
    y, x = np.indices((CACHED, CACHED)).astype(np.int16) * scale
    reader = bound(tmp_path, np.stack([x, y]))
    seen = []
    reader._windowed = lambda read: seen.append(read((0,))) or np.zeros((SEEN, SEEN, 3), np.uint8)
    read = warped(ops, VIEW, reader)
    ones = np.ones((SEEN, SEEN), np.float32)
    for seed in range(12):
        for row, values in enumerate((x, y)):
            read(row, seed)
            # One channel at a time: OpenCV rounds places to 1/32 of a pixel for two or three.
            enlarged = cv2.resize(values.astype(np.float32), (SEEN, SEEN), interpolation=cv2.INTER_LINEAR)
            expected, inside = step_by_step(enlarged, ops, seed), step_by_step(ones, ops, seed)
            # The outermost pixels have no place of their own: one way repeats them, one fades out.
            inside = cv2.erode((inside > 0.999).astype(np.uint8), np.ones((7, 7)), borderType=cv2.BORDER_CONSTANT,
                               borderValue=0).astype(bool)
            assert inside.mean() > 0.4
            assert np.abs(seen[-1] - expected)[inside].max() < 0.01 * scale + 1


def test_what_follows_is_drawn_as_before(tmp_path):
    slices = np.full((1, CACHED, CACHED), 30, np.int16)
    reader = bound(tmp_path, slices)
    ops = (*MOVES[1:4], BRIGHTER)
    once, before = warped(ops, VIEW, reader), pipeline(ops, VIEW.size)
    made = [once(0, seed) for seed in range(30)]
    for seed, picture in enumerate(made):
        expected, _ = before(reader(0), np.zeros(1), seed)
        # Enlarging fades the outermost pixels.
        np.testing.assert_array_equal(picture[2:-2, 2:-2], expected[2:-2, 2:-2])
    assert len({picture.tobytes() for picture in made}) > 15


def test_outside_is_black_and_unmoved_is_the_plain_picture(tmp_path):
    slices = np.full((1, CACHED, CACHED), 3000, np.int16)
    reader = bound(tmp_path, slices)
    half = np.array([[1, 0, SEEN / 2], [0, 1, 0], [0, 0, 1]])
    moved = reader.moved(0, half)
    assert (moved[:, :SEEN // 2 - 2] == 0).all() and (moved[2:-2, SEEN // 2 + 2:] == 255).all()
    np.testing.assert_array_equal(reader.moved(0, np.eye(3)), reader(0))


def test_flips_and_transposes_have_the_bits_of_the_plain_picture(tmp_path):
    reader = bound(tmp_path, np.random.default_rng(0).integers(-100, 200, (1, CACHED, CACHED)).astype(np.int16))
    plain, made = reader(0), set()
    for seed in range(40):
        picture = warped(MOVES[1:4], VIEW, reader)(0, seed)
        np.testing.assert_array_equal(picture, pipeline(MOVES[1:4], VIEW.size)(plain, np.zeros(1), seed)[0])
        made.add(picture.tobytes())
    assert len(made) == 8
    for row, column in ((0, 0), (0, 1), (0, 2), (1, 2)):
        nearly = np.eye(3)
        nearly[row, column] += 0.1
        assert is_turn(np.eye(3), SEEN) and not is_turn(nearly, SEEN)


def test_neighbors_and_means_are_read_as_the_view_says(tmp_path):
    slices = np.random.default_rng(0).integers(-100, 200, (4, CACHED, CACHED)).astype(np.int16)
    channels = (Channel((40, 80), (-1,)), Channel((80, 200), (-1, 0, 1)), Channel((40, 400), (-1,)), Channel((40, 80), (1,)))
    reader = bound(tmp_path, slices, Slices(channels, SEEN, (0.0,) * 4, (1.0,) * 4))
    flip = np.array([[-1, 0, SEEN - 1], [0, 1, 0], [0, 0, 1]])
    for row in range(4):
        np.testing.assert_allclose(reader.moved(row, flip)[2:-2, 2:-2], reader(row)[2:-2, ::-1][:, 2:-2], atol=255 / 80 * 2)


@pytest.mark.parametrize("recipe", [RESNEXT101, SE_RESNEXT50], ids=lambda recipe: recipe.name)
def test_the_recipes_that_enlarge_are_warped_once(recipe, tmp_path):
    reader = bound(tmp_path, np.zeros((1, 400, 400), np.int16), recipe.view)
    assert warped(recipe.augment, recipe.view, reader) is not None


@pytest.mark.parametrize(
    "ops",
    [
        (),
        (BRIGHTER, *MOVES),
        (Op("Rotate", {"limit": 30, "interpolation": 0}),),
        (Op("Affine", {"rotate": 30, "border_mode": 4}),),
        (Op("Affine", {"rotate": 30, "fill": 7}),),
        (Op("Rotate", {"limit": 30, "crop_border": True}),),
        (Op("RandomResizedCrop", {"size": (100, 100)}),),
    ],
    ids=["nothing", "gray first", "nearest", "mirrored", "gray outside", "cropped", "another size"],
)
def test_other_moves_are_left_to_albumentations(ops, tmp_path):
    assert warped(ops, VIEW, bound(tmp_path, np.zeros((1, CACHED, CACHED), np.int16))) is None


def test_views_that_do_not_enlarge_are_read_as_before(tmp_path):
    for side in (SEEN, SEEN + 10):
        assert warped(MOVES, VIEW, bound(tmp_path, np.zeros((1, side, side), np.int16))) is None
    assert warped(MOVES, VIEW, lambda row: np.zeros((SEEN, SEEN, 3), np.uint8)) is None


def test_a_batch_takes_it(tmp_path):
    slices = np.random.default_rng(0).integers(-100, 200, (2, CACHED, CACHED)).astype(np.int16)
    reader = bound(tmp_path, slices)
    read = warped((*MOVES, BRIGHTER), VIEW, reader)
    pictures = Pictures(reader, np.zeros((2, 6), np.float32), np.zeros((2, 0), np.float32), warped=read)
    np.testing.assert_array_equal(pictures[1, 5][0], read(1, 5).transpose(2, 0, 1))
    np.testing.assert_array_equal(pictures[1, -1][0], reader(1).transpose(2, 0, 1))
    assert (reader(1) == apply(resize(slices[1], SEEN), WINDOWS)).all()
