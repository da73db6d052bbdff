"""Augmentation: strict names, seeded by the sample alone, any channels; test-time views by name."""

import random

import numpy as np
import pytest
import torch

from radstack.core.errors import UserError
from radstack.recipes.experiment import Op
from radstack.training.augment import pipeline, transform
from radstack.training.inference import TTA, center_crop, tta

SIZE = (64, 64)
LABEL = np.zeros(1, np.float32)
OPS = (
    Op("HorizontalFlip", {"p": 0.5}),
    Op("VerticalFlip", {"p": 0.5}),
    Op("Transpose", {"p": 0.5}),
    Op("RandomResizedCrop", {"scale": (0.7, 1.0), "p": 1.0}),
    Op("Rotate", {"limit": 30, "p": 0.7}),
    Op("Affine", {"scale": (0.95, 1.05), "translate_percent": 0.05, "p": 0.5}),
    Op("RandomBrightnessContrast", {"brightness_limit": 0.08, "contrast_limit": 0.08, "p": 0.5}),
    Op("Erasing", {"p": 0.3}),
)


def picture(channels: int = 3, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)


def test_the_seed_alone_decides():
    first, second = pipeline(OPS, SIZE), pipeline(OPS, SIZE)
    seeds = list(range(40))
    expected = [first(picture(), LABEL, seed)[0] for seed in seeds]
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state must not matter
    for seed in random.sample(seeds, len(seeds)):
        np.testing.assert_array_equal(second(picture(), LABEL, seed)[0], expected[seed])
    assert len({image.tobytes() for image in expected}) > 35, "different seeds make different pictures"


def test_transforms_are_independent_of_each_other():
    augment = pipeline((Op("HorizontalFlip", {"p": 0.5}), Op("VerticalFlip", {"p": 0.5})), SIZE)
    image = picture()
    made = [augment(image, LABEL, seed)[0] for seed in range(400)]
    counts = [sum(np.array_equal(each, view) for each in made)
              for view in (image, image[:, ::-1], image[::-1], image[::-1, ::-1])]
    assert sum(counts) == 400
    assert min(counts) > 70, f"flips go together: {counts}"


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 9])
def test_any_number_of_channels(channels):
    image = picture(channels)
    before = image.copy()
    augment = pipeline(OPS, SIZE)
    for seed in range(10):
        result, _ = augment(image, LABEL, seed)
        assert result.shape == image.shape and result.dtype == np.uint8 and result.flags.c_contiguous
    np.testing.assert_array_equal(image, before)


def test_no_operations_change_nothing():
    image = picture()
    np.testing.assert_array_equal(pipeline((), SIZE)(image, LABEL, 3)[0], image)


def test_masks_and_points_move_with_the_picture():
    ops = (Op("Affine", {"rotate": (-20, 20), "translate_percent": (-0.1, 0.1), "scale": (0.9, 1.1), "p": 1.0}),)
    image, mask = np.zeros((64, 48, 1), np.uint8), np.zeros((64, 48), np.uint8)
    image[20:25, 30:35] = mask[20:25, 30:35] = 255
    point = np.array([32 / 23.5 - 1, 22 / 31.5 - 1], np.float32)
    for seed in range(10):
        moved, moved_mask = pipeline(ops, (64, 48), "mask")(image, mask, seed)
        same, moved_point = pipeline(ops, (64, 48), "points")(image, point, seed)
        np.testing.assert_array_equal(moved, same)
        assert np.abs(moved[..., 0].astype(int) - moved_mask).mean() < 2
        y, x = (np.indices(moved_mask.shape) * moved_mask).sum((1, 2)) / moved_mask.sum()
        np.testing.assert_allclose((moved_point + 1) * [23.5, 31.5], [x, y], atol=0.8)
        assert moved_point.dtype == np.float32 and np.abs(moved_point - point).max() > 0.01


def test_size_is_filled_in_and_not_overruled():
    assert transform(Op("RandomResizedCrop"), (48, 32)).size == (48, 32)
    assert transform(Op("RandomResizedCrop", {"size": (8, 8)}), (48, 32)).size == (8, 8)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("op", "says"),
    [
        (Op("HorizontlFlip"), "did you mean 'HorizontalFlip'"),
        (Op("Compose"), "no albumentations transform 'Compose'"),
        (Op("Rotate", {"limits": 30}), "no argument of Rotate, 'limits'; did you mean 'limit'"),
        (Op("HorizontalFlip", {"p": 2}), r"refuses HorizontalFlip\(p=2\)"),
        (Op("RandomCrop"), "refuses RandomCrop"),
    ],
)
def test_what_albumentations_would_warn_about_is_an_error(op, says):
    with pytest.raises(UserError, match=says) as error:
        pipeline((op,), SIZE)
    assert "\n" not in str(error.value)


def test_wrong_pictures_are_refused():
    augment = pipeline(OPS, SIZE)
    for wrong in (picture(size=(65, 64)), picture().astype(np.float32), picture()[..., 0]):
        with pytest.raises(UserError, match="the view delivered"):
            augment(wrong, LABEL, 0)
    with pytest.raises(UserError, match="the augmentation made"):
        pipeline((Op("RandomCrop", {"height": 32, "width": 32}),), SIZE)(picture(), LABEL, 0)


def batch(height: int = 10, width: int = 10) -> torch.Tensor:
    return torch.arange(2 * 3 * height * width, dtype=torch.float32).reshape(2, 3, height, width)


def test_views_by_hand():
    images = batch(2, 2)[:1, :1]  # [[0, 1], [2, 3]]
    by_name = {name: TTA[name](images).flatten().tolist() for name in TTA if not name.startswith(("crop", "turn"))}
    assert by_name == {"plain": [0, 1, 2, 3], "hflip": [1, 0, 3, 2], "transpose": [0, 2, 1, 3],
                       "channel_reverse": [0, 1, 2, 3]}
    assert TTA["channel_reverse"](batch())[0, :, 0, 0].tolist() == [200, 100, 0]


def test_crops_keep_the_center_and_cut_the_border():
    images = torch.zeros(1, 1, 100, 100)
    images[..., :5, :] = 1
    assert TTA["crop90"](images).max() == 0
    images = torch.zeros(1, 1, 100, 100)
    images[..., 10:20, :] = 1
    kept = center_crop(images, 0.8)[0, 0, :, 50]
    assert kept[:12].min() == 1 and kept[14:].max() == 0
    assert TTA["crop90"](batch(64, 48)).shape == (2, 3, 64, 48)


@pytest.mark.parametrize("name", TTA)
def test_views_are_deterministic_and_keep_the_batch(name):
    images = batch()
    before = images.clone()
    first = TTA[name](images)
    assert first.shape == images.shape
    assert torch.equal(first, TTA[name](images)) and torch.equal(images, before)
    if not name.startswith(("crop", "turn")):
        assert torch.equal(TTA[name](first), images), "twice is the identity"


def test_views_in_the_order_named_and_unknown_ones_refused():
    assert tta(("hflip", "plain")) == (TTA["hflip"], TTA["plain"])
    with pytest.raises(UserError, match="no test-time view 'hflop'; did you mean 'hflip'"):
        tta(("plain", "hflop"))
