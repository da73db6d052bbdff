"""The forms of a submission: predictions become rows of the organizer's CSV, in the order of his sample file.

``long`` is that of RSNA 2019, ``<id>_<target>,probability``; ``wide`` has one row a picture and one column a target,
``classes`` likewise, the targets being probabilities of classes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.errors import UserError
from radstack.core.registry import pick
from radstack.recipes.submission import LONG, Layout
from radstack.submission.files import read_ids, write


def write_predictions(path: Path, predictions: pd.DataFrame, sample_path: Path, targets: tuple[str, ...],
                      layout: Layout) -> pd.DataFrame:
    """Write the submission in the layout's form; arguments, result and errors are those of the form's function."""
    return pick(FORMS, layout.form, "form of submission")(path, predictions, sample_path, targets, layout)


def write_long(path: Path, predictions: pd.DataFrame, sample_path: Path, targets: tuple[str, ...],
               layout: Layout = LONG) -> pd.DataFrame:
    """Write ``<id>_<target>,probability`` rows in the sample file's order.

    A row without a prediction (its picture could not be read) gets the least prediction of its target, since an
    unreadable picture is rarely a positive one and 0 would be the costliest guess if it is.

    Args:
        path: file to write.
        predictions: ``id`` and a probability column for each target, one row a picture.
        sample_path: the organizer's sample submission.
        targets: label columns.
        layout: columns and range.

    Returns:
        The filled rows: ``id`` (as in the file) and ``value``; empty when all were predicted.

    Raises:
        UserError: predictions are empty, hold an id twice, or an id that the sample file does not name.
    """
    ids = read_ids(sample_path, layout)
    codes = target_codes(ids, targets)
    table = predictions[list(targets)].to_numpy(np.float64)
    place = _places(ids, predictions["id"], tuple(f"_{target}" for target in targets))
    missing = place < 0
    values = np.where(missing, np.fmin.reduce(table)[codes], table.T.reshape(-1)[place])
    write(path, ids, values, layout)
    return pd.DataFrame({"id": ids[missing], "value": values[missing]}).reset_index(drop=True)


def write_wide(path: Path, predictions: pd.DataFrame, sample_path: Path, targets: tuple[str, ...],
               layout: Layout) -> pd.DataFrame:
    """Write one row a picture in the sample file's order; the layout's ``values`` are the columns of ``targets``, in order.

    A row without a prediction (its picture could not be read) gets the median prediction, the guess with the least absolute
    error. Arguments and errors are those of :func:`write_long`.

    Returns:
        The filled rows: ``id`` and the values; empty when all were predicted.
    """
    return _write_rows(path, predictions, sample_path, targets, layout, np.nanmedian)


def write_classes(path: Path, predictions: pd.DataFrame, sample_path: Path, targets: tuple[str, ...],
                  layout: Layout) -> pd.DataFrame:
    """Like :func:`write_wide` for probabilities of classes, with the layout's ``calls`` before them.

    A row without a prediction gets the mean, which sums to 1 in each group as every prediction does.
    """
    return _write_rows(path, predictions, sample_path, targets, layout, np.nanmean)


def _write_rows(path: Path, predictions: pd.DataFrame, sample_path: Path, targets: tuple[str, ...], layout: Layout,
                fill: Callable[..., np.ndarray]) -> pd.DataFrame:
    """One row a picture; ``fill(table, axis=0)`` stands where there is no prediction."""
    ids = read_ids(sample_path, layout)
    table = predictions[list(targets)].to_numpy(np.float64)
    place = _places(ids, predictions["id"], ("",))
    missing = place < 0
    values = np.where(missing[:, None], fill(table, axis=0), table[place])
    write(path, ids, values, layout)
    filled = pd.DataFrame(values[missing], columns=list(layout.values))
    filled.insert(0, layout.id_column, ids[missing].to_numpy())
    return filled


Form = Callable[[Path, pd.DataFrame, Path, tuple[str, ...], Layout], pd.DataFrame]

FORMS: dict[str, Form] = {"long": write_long, "wide": write_wide, "classes": write_classes}


def write_constant(path: Path, sample_path: Path, constant: Mapping[str, float], layout: Layout = LONG) -> None:
    """Write each target's ``constant`` everywhere: the first file to upload, since its score is known beforehand."""
    ids, values = read_ids(sample_path, layout), np.array(list(constant.values()))
    long = layout.form == "long"
    write(path, ids, values[target_codes(ids, tuple(constant))] if long else np.tile(values, (len(ids), 1)), layout)


def target_codes(ids: pd.Series, targets: tuple[str, ...]) -> np.ndarray:
    """Target number of each long-form name, int [rows].

    Raises:
        UserError: a name ends in no ``_<target>``.
    """
    codes = np.full(len(ids), -1)
    for place, target in enumerate(targets):
        codes[ids.str.endswith(f"_{target}").to_numpy(bool)] = place
    if (codes < 0).any():
        raise UserError(f"the sample file names {ids.iloc[int((codes < 0).argmax())]}, which ends in none of "
                        f"{', '.join(targets)}")
    return codes


def _places(ids: pd.Series, pictures: pd.Series, endings: tuple[str, ...]) -> np.ndarray:
    """Place of each row's name in the predictions laid out ending by ending, -1 where there is none."""
    if not len(pictures):
        raise UserError("there are no test predictions to submit; run 05_predict.py, or write the constant submission")
    names = pd.Index(pd.concat([pictures + ending for ending in endings], ignore_index=True))
    if not names.is_unique:
        raise UserError(f"{pictures[pictures.duplicated()].iloc[0]} is predicted twice; average the folds first")
    place = names.get_indexer(pd.Index(ids))
    if (place >= 0).sum() < len(names):
        stranger = names[~names.isin(ids)][0]
        raise UserError(f"{stranger} is predicted but not in the sample file; are these the test predictions?")
    return place
