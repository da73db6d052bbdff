"""Stage 05: one network -> out-of-fold rows, test rows, embeddings; the two splits are artifacts of their own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, Part
from radstack.core.code import code_of
from radstack.core.errors import UserError, command
from radstack.core.files import need_disk, new_array, replacing, write_table
from radstack.core.folds import ALL, fold_hash, fold_words
from radstack.core.progress import titled
from radstack.recipes.experiment import Experiment
from radstack.recipes.sequence import Sequence
from radstack.running.context import Context
from radstack.running.device import device_of
from radstack.running.length import predicting_length
from radstack.running.tables import read_folds, read_rows
from radstack.running.tasks import make_all, per_fold
from radstack.stack.predictions import fold_file, networks_file, prediction_table
from radstack.stages.train import network_files, network_names

T = TypeVar("T")
VERSION = 2


def predict(context: Context) -> None:
    """Predict with every chosen network of every chosen fold, unless that is done and unchanged: out of fold, then test."""
    splits = {"train": "predict", "test": "predict test with"}
    if ALL in context.options.folds:  # it met every training row
        del splits["train"]
    make_all(context, [maker for split, verb in splits.items()
                       for maker in per_fold(context, verb, context.experiments, partial(predictions_artifact, split=split),
                                             partial(predict_fold, split=split), predicting_length)])


def predictions_artifact(context: Context, experiment: Experiment, fold: int, split: str) -> Artifact:
    """The table of one split; the embeddings where a sequence model reads them; of several networks what each says."""
    paths = context.paths
    folder = paths.oof / experiment.name
    embeds = embeddings_wanted(context, experiment.name) and fold != ALL
    files = (fold_file(folder, fold, split), *([embeddings_file(folder, fold, split)] if embeds else ()),
             *([networks_file(folder, fold)] if experiment.networks > 1 and split == "train" else ()))
    recipe = {"view": experiment.view, "tta": experiment.tta, "embeddings": embeds,
              # Edited code may answer otherwise by the same weights.
              "code": [code_of(experiment.backbone), code_of(experiment.loss)]}
    inputs: tuple[Path | Part, ...] = (*network_files(context, experiment, fold), Part(paths.cache / "rows.parquet", split))
    dealt = (paths.folds / "folds.csv",) if split == "train" else ()
    return Artifact("05_predict", VERSION, files, recipe, (*inputs, *dealt))


def embeddings_file(folder: Path, fold: int, split: str) -> Path:
    """float16 [rows, width] of fold ``fold``'s network for every row of ``split`` in the row table, in its order.

    Of several networks they are the first one's: each has a space of its own, so that their mean says nothing, and side by
    side they are too many numbers (real heads, three seeds: a BiLSTM's loss is .165, on the first one's .157).
    """
    return folder / f"fold{fold}{'_test' * (split == 'test')}_embeddings.npy"


def embeddings_wanted(context: Context, name: str) -> bool:
    """Whether any sequence model of the competition, or a variant of one, reads this experiment's embeddings."""
    return any(isinstance(one, Sequence) and name in one.members for one in context.recipes)


def predict_fold(context: Context, experiment: Experiment, fold: int, split: str) -> None:
    """Predict the rows of one split and write."""
    with titled(f"predict {experiment.name} {fold_words(fold)}"):
        artifact = predictions_artifact(context, experiment, fold, split)
        artifact.make(lambda: _predict(context, experiment, fold, split), context.options.force)


def _predict(context: Context, experiment: Experiment, fold: int, split: str) -> dict[str, Any]:
    import torch

    from radstack.core.say import say
    from radstack.images.shards import Shards
    from radstack.training import inference

    rows, fold_of_row = read_rows(context, split)
    device = torch.device(device_of(context.options.device))
    folder, targets = context.paths.oof / experiment.name, context.competition.targets_of(experiment)
    files, every = network_files(context, experiment, fold), context.competition.targets
    load = partial(inference.load_net, experiment, targets, device=device)
    first = load(files[0])
    answered = fold_of_row == (fold if split == "train" else -1)
    embeds = embeddings_wanted(context, experiment.name) and fold != ALL
    look = partial(inference.predict, experiment, targets=targets, rows=rows, cache=Shards(context.paths.cache), report=say,
                   workers=context.options.workers if device.type == "cuda" else 0)

    def each(store: np.ndarray) -> list[np.ndarray]:
        """What each network says; the first one's embeddings, which are of all rows, go to ``store``."""
        said = [look(first, wanted=np.flatnonzero(embeds | answered), store=store)]
        return said + [look(load(file), wanted=np.flatnonzero(answered), store=store[:0]) for file in files[1:]]

    if embeds:
        said = _with_embeddings(embeddings_file(folder, fold, split), (len(rows), first.width), each)
    else:
        said = each(np.empty((0, first.width), np.float16))
    ids, number = rows["id"].to_numpy()[answered], fold if split == "train" else -1
    check_finite(experiment, fold, ids, [one[answered] for one in said])
    mean, *single = [prediction_table(ids, number, _all_columns(one, targets, every)[answered], every)
                     for one in [averaged(said), *(said if len(said) > 1 else [])]]
    write_table(fold_file(folder, fold, split), mean)
    if split == "test":
        return {}
    facts = {"fold_hash": fold_hash(read_folds(context)), "score": _score(context, rows[answered], mean)}
    if not single:
        return facts
    named = dict(zip(network_names(experiment), single, strict=True))
    write_table(networks_file(folder, fold), pd.concat([table.assign(network=name) for name, table in named.items()]))
    return facts | {"networks": {name: _score(context, rows[answered], table) for name, table in named.items()}}


def check_finite(experiment: Experiment, fold: int, ids: np.ndarray, said: list[np.ndarray]) -> None:
    """Refuse what the networks of a fold say of the rows ``ids``, [rows, targets] each, where it is no number."""
    for network, one in zip(network_names(experiment), said, strict=True):
        bad, name = ids[~np.isfinite(one).all(axis=1)], f"{experiment.name} {network}".rstrip()
        if len(bad):
            again = f"{command('04_train', experiment.name)} --folds {'all' if fold == ALL else fold} --force"
            raise UserError(f"{name}, {fold_words(fold)}: {len(bad)} of {len(ids)} answers are not finite, the first of "
                            f"{bad[0]}; train it again, {again}, and where that does not help make a variant of it with "
                            "--set train.precision=fp32")


def averaged(said: list[np.ndarray]) -> np.ndarray:
    """The mean of what networks say, float32 [rows, targets], as folds are averaged; of one network what it says."""
    return said[0] if len(said) == 1 else np.stack(said).mean(axis=0, dtype=np.float64).astype(np.float32)


def _all_columns(said: np.ndarray, own: tuple[str, ...], every: tuple[str, ...]) -> np.ndarray:
    """``said`` of the targets ``own`` as columns of ``every`` target, NaN elsewhere."""
    return pd.DataFrame(said, columns=list(own)).reindex(columns=list(every)).to_numpy()


def _with_embeddings(path: Path, shape: tuple[int, int], look: Callable[[np.ndarray], T]) -> T:
    """Call ``look`` with a float16 map of ``shape`` that becomes the file ``path``."""
    need_disk(path.parent, shape[0] * shape[1] * 2, "05_predict")
    with replacing(path, shape[0] * shape[1] * 2) as part:
        store = new_array(part, np.float16, shape)
        said = look(store)
        store.flush()
    return said


def _score(context: Context, rows: Any, table: Any) -> float:
    targets = list(context.competition.targets)
    return round(context.competition.metric.score(rows[targets].to_numpy(), table[targets].to_numpy()), 5)
