"""Windows: the fast path gives the bytes of the formula."""

import numpy as np
import pytest

from radstack.core.errors import UserError
from radstack.images.windows import Window, apply, reference

EVERY = np.arange(65536, dtype=np.uint16).view(np.int16).reshape(256, 256)
SETS = [
    [(40, 80)],
    [(40, 80), (80, 200)],
    [(40, 80), (80, 200), (600, 2800)],
    [(40, 80), (80, 200), (600, 2800), (40, 380)],
    [(40.5, 81), (0, 1), (-600.25, 1500.5)],
]


@pytest.mark.parametrize("windows", SETS)
def test_fast_path_has_the_bytes_of_the_formula_for_every_value(windows):
    fast = apply(EVERY, windows)
    assert fast.dtype == np.uint8 and fast.shape == (256, 256, len(windows))
    assert np.array_equal(fast, reference(EVERY, windows))


def test_formula_by_hand():
    hu = np.array([-1024, 0, 8, 40, 79, 80, 3071], np.int16)
    assert apply(hu, [Window(40, 80)])[:, 0].tolist() == [0, 0, 26, 128, 252, 255, 255]
    assert apply(hu, [Window(80, 200)])[:, 0].tolist() == [0, 26, 36, 76, 126, 128, 255]


@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 6), (2, 0)])
def test_any_shape_and_stride(shape):
    values = np.random.default_rng(0).integers(-1024, 3071, shape).astype(np.int16)
    assert np.array_equal(apply(values, SETS[2]), reference(values, SETS[2]))
    assert np.array_equal(apply(EVERY[::3, ::-2], SETS[1]), reference(EVERY[::3, ::-2], SETS[1]))


def test_what_is_not_a_window_is_refused():
    for windows in ([(40, 0)], [(40, -80)], [(40, float("nan"))], [], [(40, 80)] * 5):
        with pytest.raises(UserError):
            apply(EVERY, windows)
