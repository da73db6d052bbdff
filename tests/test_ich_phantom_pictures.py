from dataclasses import replace

import numpy as np
import pytest

from phantoms.ich.anatomy import calvaria, cavity, paint_brain, paint_skull, patch
from phantoms.ich.head import depth, grid_of, head_window
from phantoms.ich.lesions import EPIDURAL, INTRAVENTRICULAR, Epidural, Scene, within
from phantoms.ich.render import draw_series, draw_slice, draw_study
from phantoms.solids import Grid


def study_with(part: str, number: int = 0):
    return draw_study(9, number, 0, (part,))


def scene_of(study, slices, number: int) -> tuple[Scene, np.ndarray]:
    window = head_window(slices, study.pose, study.head)
    grid = grid_of(slices, study.pose, number, window)
    field = patch(study.fields, 40.0, (0.0, 0.0), slices.pixel, grid.x.shape[1:])
    cranium = cavity(study.head, grid, depth(study.head, grid))
    hu = paint_skull(study.head, grid, cranium, calvaria(study.head, slices.pixel), field)
    return Scene(study.head, grid, grid, cranium, paint_brain(study.head, grid, cranium, field, hu), field), hu


def test_position_orders_the_slices_under_tilt():
    study = next(study for study in (draw_study(1, number, 0, ()) for number in range(40)) if study.pose.tilt > 0.2)
    slices = draw_series(study, np.random.default_rng(0), 32).slices
    normal = np.cross([1, 0, 0], slices.columns)
    along = slices.positions @ normal
    assert (np.diff(along) > 0).all() and (np.ptp(slices.positions[:, :2], axis=0) == 0).all()
    np.testing.assert_allclose(np.diff(along), slices.thickness[:-1], atol=0.06)


@pytest.mark.parametrize("part, target", [("edh", 0), ("deep", 1), ("lobar", 1), ("ivh", 2), ("sah", 3), ("aneurysm", 3),
                                          ("sdh", 4)])
def test_each_class_is_drawn_bright_and_of_visible_size(part, target):
    areas, brighter = [], []
    for number in range(3):
        drawn = draw_series(study_with(part, number), np.random.default_rng(number), 64)
        assert (np.delete(drawn.area, target, axis=1) == 0).all()
        areas.append(drawn.area[:, target].max())
        brighter.append(drawn.contrast[drawn.area[:, target].argmax(), target])
    assert max(areas) > 15 and np.median(brighter) > 8


@pytest.mark.parametrize("part", ["chronic", "air"])
def test_what_is_not_acute_is_not_counted(part):
    study = study_with(part)
    blank = replace(study, exam=replace(study.exam, lesions=()))
    drawn, plain = (draw_series(item, np.random.default_rng(0), 64) for item in (study, blank))
    assert (drawn.area == 0).all() and np.abs(drawn.pixels - plain.pixels).max() > 10


def blood_of(study, slices, number: int, size: int) -> np.ndarray:
    """The share of blood in each pixel of a slice, float [size, size], however little."""
    window, share = head_window(slices, study.pose, study.head), np.zeros((size, size))
    grid = grid_of(slices, study.pose, number, window)
    for one in draw_slice(study, slices, number, window, grid, calvaria(study.head, slices.pixel))[1].values():
        share[window] += one
    return share


def test_picture_holds_no_label_beyond_the_blood():
    """Without lesions the same draw gives the same picture in every pixel that no blood touches."""
    study = study_with("sah", 2)
    blank = replace(study, exam=replace(study.exam, lesions=()))
    drawn, plain = (draw_series(item, np.random.default_rng(4), 64) for item in (study, blank))
    changed = drawn.pixels != plain.pixels
    blood = np.stack([blood_of(study, drawn.slices, number, 64) for number in range(len(changed))]) > 0
    assert not (changed & ~blood).any()
    touched, visible = changed.any((1, 2)), drawn.area.sum(1) > 0
    assert touched[visible].all() and 3 < visible.sum() < touched.sum() < len(touched) / 2


def test_epidural_stays_in_its_sector():
    for number in range(3):
        study = study_with("edh", number)
        lesion = study.exam.lesions[0]
        assert isinstance(lesion, Epidural) and lesion.target == EPIDURAL
        slices = draw_series(study, np.random.default_rng(number), 64).slices
        found = 0.0
        for slice_number in range(0, len(slices.positions), 3):
            scene, hu = scene_of(study, slices, slice_number)
            share = lesion.paint(scene, hu)
            found += share.sum()
            assert share[within(scene.grid, lesion.side, lesion.sector) <= 0].sum() == 0
            assert share[scene.cranium.depth < -slices.pixel].sum() == 0
        assert found > 0


def test_intraventricular_blood_stays_in_the_ventricles():
    found = 0.0
    for number in range(2):
        study = study_with("ivh", number)
        lesion = study.exam.lesions[0]
        slices = draw_series(study, np.random.default_rng(number), 64).slices
        for slice_number in range(len(slices.positions)):
            scene, hu = scene_of(study, slices, slice_number)
            share = lesion.paint(scene, hu)
            found += share.sum()
            assert (share <= scene.brain.ventricles + 1e-6).all() and lesion.target == INTRAVENTRICULAR
    assert found > 100


def test_tissue_densities_and_the_gap_to_the_head_rest():
    study = draw_study(5, 0, 0, ())
    drawn = draw_series(replace(study, exam=replace(study.exam, streaks=False, metal=False)), np.random.default_rng(0), 128)
    middle = drawn.pixels[len(drawn.pixels) * 6 // 10]
    brain = middle[(middle > 0) & (middle < 80)]
    assert 28 < np.median(brain) < 40
    assert (middle > 700).sum() > 200 and np.median(middle[:8]) == pytest.approx(-1000, abs=10)
    column = middle[:, middle.shape[1] // 2 - 4:middle.shape[1] // 2 + 4].max(1) > -300
    edges = np.flatnonzero(np.diff(column.astype(int)))
    assert len(edges) >= 4 and edges[2] - edges[1] >= 2  # head, gap, rest


def test_depth_is_measured_from_the_inner_table():
    head = draw_study(5, 1, 0, ()).head
    side = depth(head, Grid.at((head.a - 10.0, 0.0, 12.0))).item()
    back = depth(head, Grid.at((0.0, head.b + 4.0, 12.0))).item()
    top = depth(head, Grid.at((0.0, 0.0, head.c - 5.0))).item()
    assert (side, back, top) == pytest.approx((10, -4, 5), abs=0.3)
