"""Masks of a body part and similarity transforms: what the library offers before any hand is seen."""

import cv2
import numpy as np
import pytest

from radstack.images.masks import clean, dice, equalize, is_inverted, jaccard
from radstack.images.similarity import Similarity, from_points, resized, warp


def disc(size, center, radius) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.hypot(x - center[0], y - center[1]) < radius


def limb(size=200) -> tuple[np.ndarray, np.ndarray]:
    """Soft tissue with four bones in noisy air, uint8, and its mask."""
    mask = disc(size, (90, 100), 60)
    bones = np.logical_or.reduce([disc(size, (60 + 20 * k, 90 + 8 * k), 9) for k in range(4)])
    rng = np.random.default_rng(3)
    gray = cv2.GaussianBlur(np.where(bones, 190.0, np.where(mask, 110.0, 45.0)), (0, 0), 2) + rng.normal(0, 4, mask.shape)
    return np.clip(gray, 1, 254).astype(np.uint8), mask


# -- clean-up -------------------------------------------------------------------------------------------------------


def test_specks_go_holes_close_and_the_second_part_is_measured():
    first, second = disc(256, (90, 100), 60), disc(256, (205, 190), 30)
    hole, speck = disc(256, (90, 100), 12), disc(256, (20, 230), 5)
    found = clean(((first & ~hole) | second | speck).astype(np.uint8) * 200)
    assert np.array_equal(found.mask, first | second) and found.parts == 2
    assert found.second == pytest.approx(second.sum() / (first & ~hole).sum())
    assert found.share == pytest.approx((first | second).mean())


def test_parts_below_the_share_go():
    first, second = disc(256, (90, 100), 60), disc(256, (205, 190), 30)
    probability = (first | second).astype(np.uint8) * 255
    alone = clean(probability, keep=0.3)
    assert np.array_equal(alone.mask, first) and alone.parts == 1 and alone.second == pytest.approx(0.25, abs=0.01)
    assert clean(probability, keep=1).parts == 1


def test_the_threshold_is_the_least_value_inside():
    picture = np.full((8, 8), 127, np.uint8)
    assert not clean(picture).mask.any() and clean(picture + 1).mask.all() and clean(picture, threshold=127).mask.all()


def test_an_empty_map_has_no_parts():
    found = clean(np.zeros((32, 48), np.uint8))
    assert found.mask.shape == (32, 48) and not found.mask.any() and tuple(found)[1:] == (0, 0.0, 0.0)


# -- polarity -------------------------------------------------------------------------------------------------------


def framed(image, value, width) -> np.ndarray:
    """Collimated close to the limb: three sides of the picture have one value."""
    out = image.copy()
    out[:width], out[-width:], out[:, :width] = value, value, value
    return out


def test_polarity_is_read_from_the_mask():
    image, mask = limb()
    assert not is_inverted(image, mask) and is_inverted(255 - image, mask)


@pytest.mark.parametrize("width, border", [(25, 0), (25, 126), (25, 255), (55, 0), (55, 255)])
def test_collimation_does_not_turn_the_polarity(width, border):
    """The wider border cuts the limb, so that half of what lies just outside the mask is collimation."""
    image, mask = limb()
    for picture, answer in ((image, False), (255 - image, True)):
        collimated = framed(picture, border, width)
        assert is_inverted(collimated, mask & (collimated == picture)) is answer


def test_only_the_air_next_to_the_body_counts():
    image, mask = limb()
    plate = np.where(disc(200, (90, 100), 72), image, 230).astype(np.uint8)
    assert not is_inverted(plate, mask) and is_inverted(255 - plate, mask)


def test_saturated_air_is_air():
    image, mask = limb()
    black = np.where(mask, image, 0).astype(np.uint8)
    assert not is_inverted(black, mask) and is_inverted(255 - black, mask)


def test_a_steep_exposure_gradient_does_not_turn_the_polarity():
    image, mask = limb()
    slope = np.clip(image * np.linspace(0.55, 1.3, 200), 1, 254).astype(np.uint8)
    assert not is_inverted(slope, mask) and is_inverted(255 - slope, mask)


@pytest.mark.parametrize("value", [False, True])
def test_without_body_or_air_nothing_is_turned(value):
    assert not is_inverted(limb()[0], np.full((200, 200), value))


# -- contrast -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.6, 0.8, 1.25, 1.6])
def test_contrast_forgets_gamma(gamma):
    image, mask = limb()
    exposed = np.rint(255 * (image / 255) ** gamma).astype(np.uint8)
    difference = np.abs(equalize(image, mask).astype(int) - equalize(exposed, mask))[mask]
    assert np.median(difference) <= 1 and np.percentile(difference, 99) <= 3


@pytest.mark.parametrize("gain, offset", [(0.4, 0), (0.3, 120), (0.6, 90)])
def test_contrast_forgets_gain_and_offset(gain, offset):
    image, mask = limb()
    flat = np.rint(gain * image + offset).astype(np.uint8)
    difference = np.abs(equalize(image, mask).astype(int) - equalize(flat, mask))[mask]
    assert np.abs(flat.astype(int) - image)[mask].mean() > 40 > 4 > difference.mean()


def test_contrast_fills_the_range_and_blanks_the_outside():
    image, mask = limb()
    even = equalize(image, mask)
    assert even.dtype == np.uint8 and not even[~mask].any()
    assert even[mask].max() == 255 and abs(np.median(even[mask]) - 0.45 * 255) < 2


def test_contrast_of_nothing_is_black():
    image, mask = limb()
    assert not equalize(image, np.zeros_like(mask)).any() and not equalize(np.full_like(image, 77), mask).any()


# -- overlap --------------------------------------------------------------------------------------------------------


def test_overlaps_by_hand():
    a, b = np.array([True, True, True, False]), np.array([False, True, True, True])
    assert dice(a, b) == pytest.approx(2 / 3) and jaccard(a, b) == pytest.approx(0.5)
    assert dice(a, ~a) == jaccard(a, ~a) == 0 and dice(a, a) == jaccard(a, a) == 1
    assert dice(a & ~a, b & ~b) == jaccard(a & ~a, b & ~b) == 1


# -- similarity -----------------------------------------------------------------------------------------------------


def turned(angle, scale, shift, reflect) -> Similarity:
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    linear = scale * np.array([[c, -s], [s, c]]) @ np.diag([-1 if reflect else 1, 1])
    return Similarity(np.column_stack([linear, shift]))


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("angle", [-170, -40, 0, 25, 90])
def test_a_similarity_is_found_from_points_and_says_its_scale(angle, reflect):
    true = turned(angle, 1.7, (30, -12), reflect)
    source = np.random.default_rng(angle + 200).uniform(0, 500, (5, 2))
    found = from_points(source, true.apply(source), reflect)
    np.testing.assert_allclose(found.matrix, true.matrix, atol=1e-9)
    assert found.scale == pytest.approx(1.7)
    np.testing.assert_allclose(found.inverse().apply(found.apply(source)), source, atol=1e-9)
    np.testing.assert_allclose(found.inverse().after(found).matrix, np.eye(2, 3), atol=1e-9)


def test_noisy_points_give_the_least_squares():
    rng = np.random.default_rng(0)
    source, true = rng.uniform(0, 500, (40, 2)), turned(20, 0.8, (5, 9), True)
    target = true.apply(source) + rng.normal(0, 3, source.shape)
    found = from_points(source, target, True)
    best = np.square(found.apply(source) - target).sum()
    for name in ((1e-3, 0), (0, 1e-3)):
        near = Similarity(found.matrix + np.array([[name[0], name[1], 0], [name[1], -name[0], 0]]))
        assert np.square(near.apply(source) - target).sum() > best


def test_points_that_coincide_are_refused():
    with pytest.raises(ValueError, match="coincide"):
        from_points(np.ones((2, 2)), np.eye(2), False)


def test_order_of_after():
    first, second = turned(30, 2, (10, 0), False), turned(-50, 0.5, (0, 7), True)
    point = np.array([[3.0, 4.0]])
    np.testing.assert_allclose(second.after(first).apply(point), second.apply(first.apply(point)))


def test_resizing_keeps_edges():
    np.testing.assert_allclose(resized(0.25).apply(np.array([[-0.5, -0.5], [99.5, 1.5]])), [[-0.5, -0.5], [24.5, 0]])


@pytest.mark.parametrize("scale", [0.13, 0.3, 0.7, 1.0, 2.2])
def test_a_moved_picture_shows_things_where_the_transform_says(scale):
    image = np.zeros((301, 402), np.uint8)
    spot = np.array([[170.0, 130.0]])
    cv2.circle(image, (170, 130), 20, 200, -1)
    way = turned(33, scale, (0, 0), False)
    way = Similarity(np.column_stack([way.matrix[:, :2], (301.3, 248.8) - way.apply(spot)[0]]))
    out = warp(image, way, (500, 600)).astype(float)
    y, x = np.mgrid[:500, :600]
    center = np.array([(out * x).sum(), (out * y).sum()]) / out.sum()
    np.testing.assert_allclose(center, way.apply(spot)[0], atol=0.03)
    assert out.sum() / scale**2 == pytest.approx(image.sum(dtype=float), rel=0.02)


def test_shrinking_averages_and_outside_is_filled():
    stripes = np.zeros((400, 400), np.uint8)
    stripes[:, ::2] = 200
    small = warp(stripes, resized(0.1), (40, 60), fill=7)
    assert small.dtype == np.uint8 and np.abs(small[2:-2, 2:38].astype(int) - 100).max() <= 2 and (small[:, 41:] == 7).all()
