"""Stage 08: checked submission files."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from radstack.core.artifact import Artifact, manifest_of
from radstack.core.errors import UserError
from radstack.core.files import needed, read_json, sha256, write_table
from radstack.running.context import Context
from radstack.running.tables import read_index, read_rows
from radstack.scoring.intervals import Interval, interval
from radstack.scoring.task import matched
from radstack.stack.predictions import fold_files, read_member
from radstack.stages.stack import stack_folds, task_of

VERSION = 2


def submit(context: Context, name: str) -> Path:
    """Write and check ``submissions/<comp>/<name>.csv`` from the test tables of ``name``; return its path."""
    paths = context.paths
    files = (paths.submissions / f"{name}.csv", paths.submissions / f"{name}_filled.csv")
    sample = context.competition.data.sample_file(paths.input)
    tables = tuple(fold_files(paths.oof / name, fold)[1] for fold in stack_folds(context, name))
    recipe = {"name": name, "layout": context.competition.submission, "prior": prior_of(context)}
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
    filled = write_predictions(files[0], predicted, sample, targets, layout, prior_of(context))
    write_table(files[1], filled)
    rows = validate(files[0], sample, layout, context.competition.metric.groups)
    print(f"  {files[0]}: {rows:,} rows, {len(filled):,} of them had no prediction ({files[1].name})")
    return {"rows": rows, "filled": len(filled), "folds_hash": member.folds_hash}


def by_row(context: Context, predictions: pd.DataFrame) -> pd.DataFrame:
    """``id`` and targets of the submission's rows: the predictions themselves, or the mean over each volume's slices."""
    layout, targets = context.competition.submission, list(context.competition.targets)
    if layout.row == "id":
        return predictions
    whole = predictions.merge(read_index(context)[["id", layout.row]], on="id", validate="one_to_one")
    return whole.groupby(layout.row, sort=False)[targets].mean().rename_axis("id").reset_index()


PRIOR = "prior.json"
"""File of a bundle, beside its weights."""


def prior_of(context: Context) -> dict[str, float] | None:
    """Target -> its prior by the training labels, what is said of a case without a picture; None if not known.

    A solution that is applied elsewhere has it from its bundle, or from the index where it was trained.
    """
    paths, competition = context.paths, context.competition
    if (paths.weights / PRIOR).exists():
        return read_json(paths.weights / PRIOR)
    index = (paths.home or paths.out) / "folds" / paths.name / "index.parquet"
    if not index.exists():
        return None
    labels = pd.read_parquet(index, columns=["split", *competition.targets])
    known = labels.loc[labels["split"] == "train", list(competition.targets)]
    known = known[competition.metric.usable(known.to_numpy(float))]
    return {name: float(value) for name, value in competition.metric.prior(known).items()} if len(known) else None


def submit_constant(context: Context) -> None:
    """Write ``constant.csv``, shares or medians of the training labels: its score is known before it is uploaded."""
    paths, competition = context.paths, context.competition
    sample, layout = competition.data.sample_file(paths.input), competition.submission
    file = paths.submissions / "constant.csv"
    artifact = Artifact("08_submit", VERSION, (file,), {"name": "constant", "layout": layout},
                        (paths.folds / "index.parquet", sample), {"metric": competition.metric.key})

    def build() -> None:
        from radstack.submission.forms import validate, write_constant

        index = read_index(context)
        labels = index.loc[index["split"] == "train", list(competition.targets)]
        write_constant(file, sample, competition.metric.prior(labels).to_dict(), layout)
        validate(file, sample, layout, competition.metric.groups)

    context.make(artifact, build)


def check(context: Context, file: str) -> None:
    """Check any submission file; a UserError names its first wrong row."""
    rows = _valid(context, Path(file))
    print(f"  {file}: {rows:,} rows, as the sample file asks")


def _valid(context: Context, file: Path) -> int:
    """The number of rows of a file that is as the sample file asks; a UserError where it is not."""
    from radstack.submission.forms import validate

    competition = context.competition
    sample = competition.data.sample_file(context.paths.input)
    return validate(file, sample, competition.submission, competition.metric.groups)


def push(context: Context, path: Path, message: str) -> None:
    """Upload a file that passed the check, and write it into the ledger; the same bytes again only with ``--force``."""
    from radstack.submission import ledger
    from radstack.submission.kaggle import need_leaderboard

    need_leaderboard(context.competition.data.kaggle)
    if context.options.dry_run:
        print(f"  would upload {path}")
        return
    folder, sha = path.parent, sha256(needed(path, "run the same command without --push"))
    with ledger.uploading(folder, sha):
        before = ledger.pushed_before(ledger.read_ledger(folder), sha)
        if before is not None and not context.options.force:
            print(f"  not uploaded: the same bytes were pushed as {ledger.named(before)}; --force pushes them again")
            return
        _valid(context, path)
        _upload(context, path, message, sha)


def _upload(context: Context, path: Path, message: str, sha: str) -> None:
    from radstack.submission import ledger
    from radstack.submission.kaggle import may_have_arrived
    from radstack.submission.kaggle import push as upload

    folder = path.parent
    key = read_json(manifest_of(path))["key"] if manifest_of(path).exists() else ""
    row = ledger.add(folder, path.name, sha, message, key, *out_of_fold(context, path.stem))
    print(f"  uploading {path}, {path.stat().st_size / 1e6:.1f} MB", flush=True)
    try:
        answer = upload(path, context.competition.data.kaggle, message)
    except UserError as error:
        if not may_have_arrived(error):
            ledger.withdraw(folder, row)
        raise
    ledger.settle(folder, row, answer.ref)
    print(f"  {answer.words}\n  written into {folder / ledger.NAME}; its score: {context.command('08_submit')} --scores")


def out_of_fold(context: Context, name: str) -> tuple[Interval, pd.DataFrame]:
    """A model's score out of fold, and ``group``, ``loss`` (sum) and ``rows`` of each patient."""
    task, rows = task_of(context), read_rows(context, "train")[0]
    table = read_member(context.paths.oof / name, stack_folds(context, name), tests=False).oof
    both, truth, predicted = matched(table, rows, task)
    losses = task.metric.row_losses(truth, predicted)
    patients = pd.Series(losses).groupby(both["group"].to_numpy(), sort=False).agg(loss="sum", rows="size")
    return interval(losses, both["group"]), patients.rename_axis("group").reset_index()


def fetch_scores(context: Context) -> None:
    """Fill the ledger with what the leaderboard says; print what does not fit, a line each."""
    from radstack.submission import ledger
    from radstack.submission.kaggle import need_leaderboard, submissions

    folder, name = context.paths.submissions, context.competition.data.kaggle
    need_leaderboard(name)
    if context.options.dry_run:
        print(f"  would ask Kaggle for the scores of {folder / ledger.NAME}")
        return
    over = ledger.ended(folder)
    listed = submissions(name)
    with ledger.changing(folder):
        filled, lines = ledger.fill(ledger.read_ledger(folder), listed, over)
        if len(filled):
            write_table(folder / ledger.NAME, filled)
    print("\n".join(f"  {line}" for line in lines))
    for row in filled[filled["public"] != ""].itertuples():
        print(f"  {row.file} of {row.time}: out of fold {row.cv}, public {row.public}, private {row.private or 'not yet'}")
