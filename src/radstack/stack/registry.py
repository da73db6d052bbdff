"""The stacking methods by name."""

import dataclasses

from radstack.core.errors import UserError
from radstack.core.registry import check_name, pick
from radstack.recipes.stacker import Stacker
from radstack.scoring.task import Metric
from radstack.stack.adjust import Calibrate, CorrectBias, RaiseAny, Smooth
from radstack.stack.blend import Climb, Mean, Weights
from radstack.stack.classes import ClassLightGBM, ClassMean
from radstack.stack.columns import Columns, SeriesAverage
from radstack.stack.few import Choose, Shrink
from radstack.stack.linear import Linear, Route
from radstack.stack.method import Method
from radstack.stack.slices import SeriesExtraTrees, SeriesForest, SeriesInner, SeriesMean, SeriesWeights
from radstack.stack.trees import Forest, LightGBM
from radstack.stack.vote import Vote

METHODS: dict[str, type[Method]] = {
    "mean": Mean, "route": Route, "linear": Linear, "weights": Weights, "climb": Climb, "lightgbm": LightGBM,
    "forest": Forest, "calibrate": Calibrate, "correct_bias": CorrectBias, "smooth": Smooth, "raise_any": RaiseAny,
    "vote": Vote, "series_mean": SeriesMean, "series_weights": SeriesWeights, "series_inner": SeriesInner,
    "series_forest": SeriesForest, "series_extra_trees": SeriesExtraTrees,
    "class_mean": ClassMean, "class_lightgbm": ClassLightGBM, "shrink": Shrink, "choose": Choose,
    "columns": Columns, "series_average": SeriesAverage,
}


def method_of(stacker: Stacker) -> Method:
    """The method of ``stacker`` with its settings; an unknown one of either is a UserError with the nearest known."""
    method = pick(METHODS, stacker.method, "stacking method")
    for name in stacker.args:
        check_name([field.name for field in dataclasses.fields(method)], name, f"setting of {stacker.method}")
    return method(**stacker.args)


def check_handles(stacker: Stacker, metric: Metric) -> None:
    """Raise a UserError where the method cannot work on what ``metric`` scores."""
    predicts = metric.kind.predicts
    if predicts not in pick(METHODS, stacker.method, "stacking method").handles:
        able = [name for name, method in METHODS.items() if predicts in method.handles]
        raise UserError(f"stacker {stacker.name}: {stacker.method} does not work on {predicts}, which the {metric.name} "
                        f"scores; choose one of {', '.join(able)}")
