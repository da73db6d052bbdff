"""Stage 05: one network -> out-of-fold rows, test rows, embeddings; the two splits are artifacts of their own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, Part
from radstack.core.files import need_disk, new_array, replacing, write_table
from radstack.core.folds import ALL, fold_hash
from radstack.core.progress import titled
from radstack.recipes.experiment import Experiment
from radstack.recipes.sequence import Sequence
from radstack.running.context import Context
from radstack.running.device import device_of
from radstack.running.tables import read_folds, read_rows
from radstack.running.tasks import make_all, per_fold
from radstack.stack.predictions import fold_file, prediction_table
from radstack.stages.train import weights_artifact

VERSION = 2


def predict(context: Context) -> None:
    """Predict with every chosen network of every chosen fold, unless that is done and unchanged: out of fold, then test."""
    splits = {"train": "predict", "test": "predict test with"}
    if ALL in context.options.folds:  # it met every training row
        del splits["train"]
    make_all(context, [maker for split, verb in splits.items()
                       for maker in per_fold(context, verb, context.experiments, partial(predictions_artifact, split=split),
                                             partial(predict_fold, split=split))])


def predictions_artifact(context: Context, experiment: Experiment, fold: int, split: str) -> Artifact:
    """The table of one split, and the embeddings where a sequence model reads them."""
    paths = context.paths
    folder = paths.oof / experiment.name
    embeds = embeddings_wanted(context, experiment.name) and fold != ALL
    files = (fold_file(folder, fold, split), *([embeddings_file(folder, fold, split)] if embeds else ()))
    recipe = {"view": experiment.view, "tta": experiment.tta, "embeddings": embeds}
    inputs = (weights_artifact(context, experiment, fold).files[0], Part(paths.cache / "rows.parquet", split))
    dealt = (paths.folds / "folds.csv",) if split == "train" else ()
    return Artifact("05_predict", VERSION, files, recipe, (*inputs, *dealt))


def embeddings_file(folder: Path, fold: int, split: str) -> Path:
    """float16 [rows, width] of fold ``fold``'s network for every row of ``split`` in the row table, in its order."""
    return folder / f"fold{fold}{'_test' * (split == 'test')}_embeddings.npy"


def embeddings_wanted(context: Context, name: str) -> bool:
    """Whether any sequence model of the competition, or a variant of one, reads this experiment's embeddings."""
    return any(isinstance(one, Sequence) and name in one.members for one in context.recipes)


def predict_fold(context: Context, experiment: Experiment, fold: int, split: str) -> None:
    """Predict the rows of one split and write."""
    with titled(f"predict {experiment.name} fold {fold}"):
        predictions_artifact(context, experiment, fold, split).make(lambda: _predict(context, experiment, fold, split))


def _predict(context: Context, experiment: Experiment, fold: int, split: str) -> dict[str, Any]:
    import torch

    from radstack.core.say import say
    from radstack.images.shards import Shards
    from radstack.training import inference

    rows, fold_of_row = read_rows(context, split)
    device = torch.device(device_of(context.options.device))
    folder, targets = context.paths.oof / experiment.name, experiment.targets_of(context.competition.targets)
    net = inference.load_net(experiment, targets, weights_artifact(context, experiment, fold).files[0], device)
    answered = fold_of_row == (fold if split == "train" else -1)
    embeds = embeddings_wanted(context, experiment.name) and fold != ALL
    look = partial(inference.predict, experiment, net, targets, rows, np.flatnonzero(embeds | answered),
                   Shards(context.paths.cache), report=say,
                   workers=context.options.workers if device.type == "cuda" else 0)
    if embeds:
        probabilities = _with_embeddings(embeddings_file(folder, fold, split), (len(rows), net.width), look)
    else:
        probabilities = look(np.empty((0, net.width), np.float16))
    whole = pd.DataFrame(probabilities, columns=list(targets)).reindex(columns=list(context.competition.targets)).to_numpy()
    table = prediction_table(rows["id"].to_numpy()[answered], fold if split == "train" else -1, whole[answered],
                             context.competition.targets)
    write_table(fold_file(folder, fold, split), table)
    if split == "test":
        return {}
    return {"fold_hash": fold_hash(read_folds(context)), "score": _score(context, rows[answered], table)}


def _with_embeddings(path: Path, shape: tuple[int, int], look: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Call ``look`` with a float16 map of ``shape`` that becomes the file ``path``."""
    need_disk(path.parent, shape[0] * shape[1] * 2, "05_predict")
    with replacing(path, shape[0] * shape[1] * 2) as part:
        store = new_array(part, np.float16, shape)
        probabilities = look(store)
        store.flush()
    return probabilities


def _score(context: Context, rows: Any, table: Any) -> float:
    targets = list(context.competition.targets)
    return round(context.competition.metric.score(rows[targets].to_numpy(), table[targets].to_numpy()), 5)
