"""The stacking methods by name."""

import dataclasses
from typing import cast

from radstack.registry import check_name, pick
from radstack.stack.adjust import Calibrate, RaiseAny, Smooth
from radstack.stack.blend import Climb, Mean, Weights
from radstack.stack.method import Method
from radstack.stack.recipe import Stacker
from radstack.stack.trees import Forest, LightGBM
from radstack.stack.vote import Vote

METHODS: dict[str, type] = {
    "mean": Mean, "weights": Weights, "climb": Climb, "lightgbm": LightGBM, "forest": Forest,
    "calibrate": Calibrate, "smooth": Smooth, "raise_any": RaiseAny, "vote": Vote,
}


def method_of(stacker: Stacker) -> Method:
    """The method of ``stacker`` with its settings.

    Raises:
        UserError: an unknown method or setting, with the nearest known one.
    """
    method = pick(METHODS, stacker.method, "stacking method")
    for name in stacker.args:
        check_name([field.name for field in dataclasses.fields(method)], name, f"setting of {stacker.method}")
    return cast(Method, method(**stacker.args))
