"""The canonical frame: registration by landmarks, what is refused, regions, pictures."""

import cv2
import numpy as np
import pytest

from competitions.bone_age import pictures
from competitions.bone_age.frame import (
    CAPITATE,
    FRAME,
    REGIONS,
    TIP,
    cut,
    disagree,
    frame_size,
    judge,
    place,
    region_box,
    register,
    unregistered,
)
from competitions.bone_age.localizer import hand_only
from radstack.images.masks import clean
from radstack.images.similarity import Similarity, resized

HAND = np.array([[800.0, 100.0], [1380.0, 700.0], [800.0, 1600.0]])
"""Fingertip, thumb and capitate of a hand in the frame."""
SIZE = (1900, 1700)
"""Height and width of a raw picture."""


def pose(angle, scale, reflect, shift=(850, 950)) -> Similarity:
    """From the frame to a raw picture: turned about the frame's center, which comes to ``shift``."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    linear = scale * np.array([[c, -s], [s, c]]) @ np.diag([-1 if reflect else 1, 1])
    return Similarity(np.column_stack([linear, np.array(shift) - linear @ (800, 1040)]))


def random_pose(rng, reflect) -> Similarity:
    return pose(rng.uniform(-180, 180), rng.uniform(0.3, 0.75), reflect, (850, 950) + rng.uniform(-40, 40, 2))


def drawn_hand() -> tuple[np.ndarray, np.ndarray]:
    """A palm with five fingers of different lengths in the frame at scale 1/4, bones brighter, and its mask."""
    body, bones = np.zeros((520, 400)), np.zeros((520, 400))
    tips = [(70, 170), (125, 75), (200, 28), (265, 70), (345, 175)]
    cv2.ellipse(body, (205, 330), (88, 105), 0, 0, 360, 1, -1)
    cv2.rectangle(body, (155, 400), (255, 519), 1, -1)
    for tip, root in zip(tips, [(135, 330), (165, 300), (200, 290), (235, 300), (260, 380)]):
        cv2.line(body, tip, root, 1, 34)
        cv2.line(bones, tip, root, 1, 14)
    image = np.clip(40 + 80 * body + 90 * bones * body, 0, 255)
    return cv2.GaussianBlur(image, (0, 0), 1.2).astype(np.uint8), body > 0


def raw_hand(way: Similarity) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The drawn hand in a raw picture: picture, mask, landmarks."""
    image, mask = drawn_hand()
    move = way.after(resized(0.25).inverse()).matrix
    flags = {"dsize": SIZE[::-1], "flags": cv2.INTER_CUBIC}
    raw = cv2.warpAffine(image, move, borderMode=cv2.BORDER_CONSTANT, borderValue=40, **flags)
    return raw, cv2.warpAffine(mask.astype(np.uint8) * 255, move, **flags) > 127, way.apply(HAND)


# -- registration ---------------------------------------------------------------------------------------------------


def test_landmarks_come_to_their_places_from_every_pose():
    rng = np.random.default_rng(1)
    for number in range(200):
        reflect = bool(number % 2)
        points = random_pose(rng, reflect).apply(HAND)
        found = register(points, SIZE)
        assert found.reason == "" and found.mirrored is reflect
        np.testing.assert_allclose(found.transform.apply(points), HAND, atol=1e-6)


def test_errors_of_the_landmarks_stay_small_and_never_mirror_a_hand():
    rng = np.random.default_rng(2)
    for number in range(200):
        way = random_pose(rng, bool(number % 2))
        found = register(way.apply(HAND) + rng.normal(0, 4, (3, 2)), SIZE)
        assert found.mirrored is bool(number % 2)
        assert np.abs(found.transform.apply(way.apply(HAND[[0, 2]])) - HAND[[0, 2]]).max() < 60


def test_the_thumb_is_on_the_right():
    for reflect in (False, True):
        points = pose(25, 0.5, reflect).apply(HAND)
        assert register(points, SIZE).transform.apply(points)[1, 0] > TIP[0]


def test_scale_and_angle_are_those_of_the_pose():
    found = register(pose(25, 0.5, False).apply(HAND), SIZE).transform
    c, s = np.cos(np.radians(25)), np.sin(np.radians(25))
    np.testing.assert_allclose(found.matrix[:, :2], 2 * np.array([[c, s], [-s, c]]))


def moved(row, to) -> np.ndarray:
    points = pose(0, 0.6, False).apply(HAND)
    points[row] = to
    return points


@pytest.mark.parametrize("points, reason", [
    (moved(0, (850, -60)), "landmark outside the picture"),
    (moved(1, (1725, 800)), "landmark outside the picture"),
    (moved(0, (850, 1150)), "fingertip and capitate too close"),
    (moved(1, (850, 800)), "thumb on the axis"),
    (moved(1, (960, 1100)), "thumb too short"),
    (moved(0, (850, 1000)), "thumb too long"),
    (moved(1, moved(1, (0, 0))[2] + (640, 225)), "thumb points backward"),
    (moved(1, (1100, 350)), "thumb too long"),
    (moved(0, (np.nan, 100)), "no landmarks"),
    (np.full((3, 2), 500.0), "no landmarks"),
])  # fmt: skip
def test_implausible_landmarks_are_flagged_and_still_have_a_transform(points, reason):
    found = register(points, SIZE)
    assert found.reason == reason and np.isfinite(found.transform.matrix).all() and found.transform.scale > 0


def test_a_tip_at_the_edge_is_inside():
    points = pose(0, 0.6, False).apply(HAND)
    assert register(points - (0, points[0, 1] + 10), SIZE).reason == ""


def test_two_looks_at_two_fingers_are_told_and_two_at_one_are_not():
    points = pose(25, 0.5, False).apply(HAND)
    length = np.linalg.norm(points[0] - points[2])
    assert disagree(points + (0.15 * length, 0), points) == ""
    assert disagree(points + (0.25 * length, 0), points) == "two fingers taken for the third"


# -- without landmarks ----------------------------------------------------------------------------------------------


def test_a_flagged_hand_fills_the_whole_hand_region_upright():
    mask = np.zeros(SIZE, bool)
    mask[300:1300, 200:700] = True
    way = unregistered(mask, SIZE)
    corners = way.apply(np.array([[199.5, 299.5], [699.5, 1299.5]]))
    np.testing.assert_allclose(corners, [[299.5, 39.5], [1299.5, 2039.5]])
    np.testing.assert_array_equal(way.matrix[:, :2], way.scale * np.eye(2))


@pytest.mark.parametrize("mask", [None, np.zeros(SIZE, bool)])
def test_without_a_mask_the_whole_picture_is_placed(mask):
    corners = unregistered(mask, SIZE).apply(np.array([[-0.5, -0.5], [1699.5, 1899.5]]))
    assert corners[0, 0] == pytest.approx(49.5) and corners[1, 0] == pytest.approx(1549.5)
    assert (corners[:, 1] > 0).all() and (corners[:, 1] < FRAME[0]).all()


def blobs(*boxes) -> np.ndarray:
    picture = np.zeros((200, 200), np.uint8)
    for top, left, height, width in boxes:
        picture[top:top + height, left:left + width] = 255
    return picture


@pytest.mark.parametrize("picture, reason", [
    (blobs((20, 20, 150, 90)), ""),
    (blobs((20, 20, 100, 60), (130, 20, 40, 60)), ""),
    (blobs(), "no hand found"),
    (blobs((90, 90, 15, 15)), "no hand found"),
    (blobs((20, 10, 100, 60), (30, 120, 90, 60)), "two hands"),
    (blobs((3, 3, 194, 194)), "no background"),
])  # fmt: skip
def test_masks_are_judged(picture, reason):
    assert judge(clean(picture)) == reason


# -- regions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 0.25, 0.1, 0.137])
def test_regions_lie_inside_the_frame(scale):
    rows, columns = frame_size(scale)
    for name, region in REGIONS.items():
        top, left, height, width = region_box(name, scale)
        assert top >= 0 and left >= 0 and top + height <= rows and left + width <= columns
        assert abs(top + height / 2 - region.row * scale) <= 1 and abs(left + width / 2 - region.column * scale) <= 1


def test_regions_have_the_sizes_of_the_article():
    assert frame_size(1) == (2080, 1600) and frame_size(0.25) == (520, 400)
    assert region_box("A", 1) == (40, 50, 2000, 1500)
    assert [region_box(name, 0.25)[2:] for name in "ABC"] == [(500, 375), (188, 188), (150, 350)]
    assert [region_box(name, 0.1)[2:] for name in "ABC"] == [(200, 150), (75, 75), (60, 140)]


def test_the_carpus_holds_the_capitate_and_is_cut_out():
    top, left, height, width = region_box("B", 1)
    assert left < CAPITATE[0] < left + width and top + 200 < CAPITATE[1] < top + height - 300
    parts = cut(np.zeros((520, 400), np.uint8), 0.25)
    assert {name: part.shape for name, part in parts.items()} == {
        "A": (500, 375), "B": (188, 188), "C": (150, 350), "D": (200, 325)}


def test_the_fingers_reach_from_the_tip_into_the_proximal_phalanges():
    top, left, height, width = region_box("D", 1)
    assert top < TIP[1] < top + 100 and left < TIP[0] < left + width
    assert region_box("C", 1)[0] < top + height < CAPITATE[1] - 700


# -- placing --------------------------------------------------------------------------------------------------------


def test_the_landmark_network_sees_an_inverted_hand_as_it_sees_any():
    image, mask = drawn_hand()
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 2, image.shape), 1, 254).astype(np.uint8)
    seen, turned = (hand_only(picture, mask.astype(np.uint8) * 255) for picture in (noisy, 255 - noisy))
    assert np.array_equal(seen, turned) and seen[mask].std() > 20 and not seen[~mask].any()
    assert np.median(seen[noisy > 190]) > np.median(seen[mask]), "bones are bright"


def test_turned_mirrored_inverted_and_exposed_copies_look_the_same():
    """The mean difference in gray levels; two different hands differ by thirty and more."""
    reference = None
    copies = ((0, False, False, 1), (35, False, False, 1.6), (-80, True, True, 1), (170, True, False, 0.6))
    for angle, reflect, inverted, gamma in copies:
        raw, mask, points = raw_hand(pose(angle, 0.6, reflect))
        raw = np.rint(255 * (raw / 255) ** gamma).astype(np.uint8)
        placed = place(255 - raw if inverted else raw, mask, inverted, register(points, SIZE).transform, 0.1)
        assert placed.shape == (208, 160) and placed.dtype == np.uint8
        reference = placed.astype(float) if reference is None else reference
        assert np.abs(placed - reference).mean() < 2.5
    assert np.abs(np.fliplr(reference) - reference).mean() > 20


def test_the_placed_hand_lies_where_it_was_drawn_on_black():
    raw, mask, points = raw_hand(pose(35, 0.6, True))
    placed, drawn = place(raw, mask, False, register(points, SIZE).transform, 0.25), drawn_hand()[1]
    assert not placed[~cv2.dilate(drawn.astype(np.uint8), np.ones((5, 5))).astype(bool)].any()
    assert (placed[drawn] > 0).mean() > 0.95


# -- pictures -------------------------------------------------------------------------------------------------------


def colors(path) -> int:
    picture = cv2.imread(str(path))
    return len(np.unique(picture.reshape(-1, 3), axis=0))


def test_the_steps_are_drawn(tmp_path):
    image, mask = drawn_hand()
    steps = {"input": image, "mask": mask, "landmarks": image, "registered": image, **cut(image, 0.25)}
    pictures.strip(steps, tmp_path / "a" / "strip.png")
    pictures.strip(steps, tmp_path / "marked.png", points=HAND * 0.25)
    pictures.strip(steps, tmp_path / "noted.png", note="two hands")
    plain = colors(tmp_path / "a" / "strip.png")
    assert plain > 50 and colors(tmp_path / "marked.png") > plain and colors(tmp_path / "noted.png") > plain
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["strip.png"]


def test_a_hand_is_drawn_with_its_ages(tmp_path):
    image, _ = drawn_hand()
    answer = (112.6, 98.0, 127.0)
    told = pictures.hand(image, {"A": 112.0, "B": 118.0, "C": 109.0}, answer, sex="female", truth=120.0,
                         flags="thumb on the axis")
    told.savefig(tmp_path / "hand.png")
    pictures.hand(image, {"B": np.nan}, answer, sex="male").savefig(tmp_path / "bare.png")
    assert colors(tmp_path / "hand.png") > colors(tmp_path / "bare.png") > 50


def test_ages_are_read_out_in_years_and_months():
    words = [pictures.age_words(months) for months in (0, 11.6, 112.4, 228)]
    assert words == ["0 y 0 mo", "1 y 0 mo", "9 y 4 mo", "19 y 0 mo"]
