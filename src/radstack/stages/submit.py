"""Stage 08: checked submission files."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from radstack.core.artifact import Artifact
from radstack.core.files import write_table
from radstack.running.context import Context
from radstack.running.tables import read_index
from radstack.stack.predictions import fold_files, read_member
from radstack.stages.stack import stack_folds

VERSION = 1


def submit(context: Context, name: str) -> Path:
    """Write and check ``submissions/<comp>/<name>.csv`` from the test tables of ``name``; return its path."""
    paths = context.paths
    files = (paths.submissions / f"{name}.csv", paths.submissions / f"{name}_filled.csv")
    sample = context.competition.data.sample_file(paths.input)
    tables = tuple(fold_files(paths.oof / name, fold)[1] for fold in stack_folds(context, name))
    recipe = {"name": name, "layout": context.competition.submission}
    artifact = Artifact("08_submit", VERSION, files, recipe, (*tables, sample))
    context.make(artifact, partial(_write, context, name, files))
    return files[0]


def _write(context: Context, name: str, files: tuple[Path, Path]) -> dict[str, Any]:
    from radstack.stack.rows import mean_over_folds
    from radstack.submission.forms import validate, write_predictions

    layout = context.competition.submission
    targets, sample = context.competition.targets, context.competition.data.sample_file(context.paths.input)
    member = read_member(context.paths.oof / name, stack_folds(context, name))
    predicted = by_row(context, mean_over_folds(member.test, targets))
    filled = write_predictions(files[0], predicted, sample, targets, layout)
    write_table(files[1], filled)
    rows = validate(files[0], sample, layout)
    print(f"  {files[0]}: {rows:,} rows, {len(filled):,} of them had no prediction ({files[1].name})")
    return {"rows": rows, "filled": len(filled), "folds_hash": member.folds_hash}


def by_row(context: Context, predictions: pd.DataFrame) -> pd.DataFrame:
    """``id`` and targets of the submission's rows: the predictions themselves, or the mean over each volume's slices."""
    layout, targets = context.competition.submission, list(context.competition.targets)
    if layout.row == "id":
        return predictions
    whole = predictions.merge(read_index(context)[["id", layout.row]], on="id", validate="one_to_one")
    return whole.groupby(layout.row, sort=False)[targets].mean().rename_axis("id").reset_index()


def submit_constant(context: Context) -> None:
    """Write ``constant.csv``, the training prevalences or medians: its leaderboard score is known before it is uploaded."""
    paths, competition = context.paths, context.competition
    sample, layout = competition.data.sample_file(paths.input), competition.submission
    file = paths.submissions / "constant.csv"
    artifact = Artifact("08_submit", VERSION, (file,), {"name": "constant", "layout": layout},
                        (paths.folds / "index.parquet", sample))

    def build() -> None:
        from radstack.submission.forms import validate, write_constant

        index = read_index(context)
        labels = index.loc[index["split"] == "train", list(competition.targets)]
        write_constant(file, sample, competition.metric.constant(labels).to_dict(), layout)
        validate(file, sample, layout)

    context.make(artifact, build)


def check(context: Context, file: str) -> None:
    """Check any submission file; a UserError names its first wrong row."""
    from radstack.submission.forms import validate

    rows = validate(Path(file), context.competition.data.sample_file(context.paths.input), context.competition.submission)
    print(f"  {file}: {rows:,} rows, as the sample file asks")


def push(context: Context, path: Path, message: str) -> None:
    """Upload a file that passed the check."""
    from radstack.submission.forms import validate
    from radstack.submission.kaggle import push as upload

    validate(path, context.competition.data.sample_file(context.paths.input), context.competition.submission)
    print(f"  uploading {path}, {path.stat().st_size / 1e6:.1f} MB", flush=True)
    print(upload(path, context.competition.data.kaggle, message))
