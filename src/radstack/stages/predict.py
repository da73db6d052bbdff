"""Stage 05: one network -> out-of-fold rows, test rows, embeddings."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact
from radstack.core.files import need_disk, replacing
from radstack.core.folds import fold_hash
from radstack.core.progress import titled
from radstack.recipes.experiment import Experiment
from radstack.running.context import Context
from radstack.running.tables import read_folds, read_rows
from radstack.running.tasks import has_gpu, make_all, per_fold
from radstack.stack.predictions import fold_files, prediction_table, write_fold
from radstack.stages.train import weights_artifact

VERSION = 1


def predict(context: Context) -> None:
    """Predict with every chosen network of every chosen fold, unless that is done and unchanged."""
    make_all(context, per_fold(context, "predict", context.experiments, predictions_artifact, predict_fold))


def predictions_artifact(context: Context, experiment: Experiment, fold: int) -> Artifact:
    """Two tables, and the embeddings where a sequence model reads them."""
    paths = context.paths
    folder = paths.oof / experiment.name
    embeds = embeddings_wanted(context, experiment.name)
    files = fold_files(folder, fold) + ((embeddings_file(folder, fold),) if embeds else ())
    recipe = {"view": experiment.view, "tta": experiment.tta, "embeddings": embeds}
    return Artifact("05_predict", VERSION, files, recipe,
                    (weights_artifact(context, experiment, fold).files[0], paths.cache / "rows.parquet",
                     paths.folds / "folds.csv"))


def embeddings_file(folder: Path, fold: int) -> Path:
    """float16 [rows, width] of fold ``fold``'s network for every row of the row table, in its order."""
    return folder / f"fold{fold}_embeddings.npy"


def embeddings_wanted(context: Context, name: str) -> bool:
    """Whether any sequence model of the competition reads this experiment's embeddings."""
    return any(name in sequence.members for sequence in context.competition.models.sequences)


def predict_fold(context: Context, experiment: Experiment, fold: int) -> None:
    """Predict and write."""
    with titled(f"predict {experiment.name} fold {fold}"):
        predictions_artifact(context, experiment, fold).make(lambda: _predict(context, experiment, fold))


def _predict(context: Context, experiment: Experiment, fold: int) -> dict[str, Any]:
    import torch

    from radstack.core.say import say
    from radstack.images.shards import Shards
    from radstack.training import inference

    rows, fold_of_row = read_rows(context)
    device = torch.device(context.options.device or ("cuda" if has_gpu() else "cpu"))
    folder, targets = context.paths.oof / experiment.name, experiment.targets_of(context.competition.targets)
    net = inference.load_net(experiment, targets, weights_artifact(context, experiment, fold).files[0], device)
    embeds = embeddings_wanted(context, experiment.name)
    wanted = np.flatnonzero(embeds | (fold_of_row == fold) | (fold_of_row < 0))
    look = partial(inference.predict, experiment, net, targets, rows, wanted, Shards(context.paths.cache), report=say,
                   workers=context.options.workers if device.type == "cuda" else 0)
    if embeds:
        probabilities = _with_embeddings(embeddings_file(folder, fold), (len(rows), net.width), look)
    else:
        probabilities = look(np.empty((0, net.width), np.float16))
    whole = pd.DataFrame(probabilities, columns=list(targets)).reindex(columns=list(context.competition.targets)).to_numpy()
    tables = [prediction_table(rows["id"].to_numpy()[chosen], which, whole[chosen], context.competition.targets)
              for which, chosen in ((fold, fold_of_row == fold), (-1, fold_of_row < 0))]
    write_fold(folder, fold, *tables)
    return {"fold_hash": fold_hash(read_folds(context)),
            "score": _score(context, rows[fold_of_row == fold], tables[0])}


def _with_embeddings(path: Path, shape: tuple[int, int], look: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Call ``look`` with a float16 map of ``shape`` that becomes the file ``path``."""
    need_disk(path, shape[0] * shape[1] * 2, "05_predict")
    with replacing(path) as part:
        store = np.lib.format.open_memmap(part, "w+", np.float16, shape)
        probabilities = look(store)
        store.flush()
    return probabilities


def _score(context: Context, rows: Any, table: Any) -> float:
    targets = list(context.competition.targets)
    return round(context.competition.metric.score(rows[targets].to_numpy(), table[targets].to_numpy()), 5)
