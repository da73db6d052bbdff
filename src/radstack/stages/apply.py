"""A trained solution on pictures that it never saw: the stages' test side, with the weights from where they were trained.

The test set of a competition is the first thing that a solution is applied to, any other folder the next: both go through
the same functions. What is made lies below a folder of its own, as artifacts, so that a killed run goes on where it was.

A large folder is worked on in parts of whole series. Each part's shards, tables and embeddings go when it is answered: so
what grows with the folder is the index alone, in memory and on the disk.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.artifact import Artifact, Part, content_hash, split_digests
from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.core.passing import passing
from radstack.core.recipe import digest, set_fields
from radstack.core.unpack import listing, unpack
from radstack.images.quarantine import QUARANTINE_COLUMNS
from radstack.recipes.experiment import Experiment
from radstack.recipes.sequence import Sequence
from radstack.recipes.submission import Layout
from radstack.running.context import Context
from radstack.running.device import working_device
from radstack.running.tables import LOST, quarantines, read_index
from radstack.running.tasks import make_all, per_fold
from radstack.stack.predictions import fitted_files, fold_file
from radstack.stack.rows import mean_over_folds
from radstack.stages import predict, sequence, stack
from radstack.stages.cache import cache
from radstack.stages.deadline import PLAN, Deadline
from radstack.stages.decode import stamps
from radstack.stages.elsewhere import any_readable, index_folder, placed
from radstack.stages.localize import apply_localizer, folds_of, kind_of
from radstack.stages.submit import by_row, prior_of
from radstack.stages.train import network_files

Keep = Mapping[str, Callable[[Context], pd.DataFrame]]
"""Name -> what makes a table of a part that is answered, to be kept when the part's pixels go."""
PART = 8192
"""Pictures of one part, and the rest of its last series: 2.6 GB of shards at 400 pixels. A smaller folder is one part."""


def apply(context: Context, pictures: Path, out: Path, given: pd.DataFrame | None = None, hours: float = 0.0,
          part: int = PART, keep: Keep | None = None, may_be_empty: bool = False) -> Context:
    """Find the anatomy, cache, predict and stack the pictures of a folder or of a zip file.

    Args:
        context: a competition that is trained, through stage 07.
        pictures: folder of the pictures, or a zip file of one.
        out: folder for what is made; the same one again goes on where it was.
        given: the user's table of what stands beside the pictures, as text.
        hours: the deadline of :mod:`radstack.stages.deadline`; 0 for none.
        part: pictures that are worked on together; one part gives the bits of stages 01 to 08.
        keep: tables that are made of each part and kept, for :func:`kept`.
        may_be_empty: whether a folder without a usable picture is no error, since a list says what to answer.

    Returns:
        The competition there, for :func:`answers` and :func:`write_answers`. ``paths`` hold the index and the quarantines;
        where all was one part, the localization table and all predictions, too.

    Raises:
        UserError: no picture is usable, or the competition is not trained.
    """
    start = Deadline(hours) if hours else None
    if not context.options.dry_run:
        context = replace(context, options=replace(context.options, device=working_device(context.options.device)))
    there = elsewhere(context, unpacked(context, pictures, out), out)
    if not _listed(there, pd.DataFrame() if given is None else given, may_be_empty):
        return there
    index = read_index(there)
    number = parts_of(index, part)
    if number.max(initial=0) == 0:
        _joined(there).unlink(missing_ok=True)  # of a larger folder before
        return answer(there, start, 0) if len(index) else there
    later = np.append(np.bincount(number)[::-1].cumsum()[::-1], 0)
    decided = deciding(there) | {"weights": weights_digest(there)}
    for one in range(number.max() + 1):
        _part(there, one, index[number == one].reset_index(drop=True), start, int(later[one + 1]), keep or {}, decided)
    if not there.options.dry_run:
        _join(there, number.max() + 1, tuple(keep or ()))
    return there


def _listed(there: Context, given: pd.DataFrame, may_be_empty: bool) -> bool:
    """Whether there is an index of the pictures, which a dry run does not write (nor does it unpack a zip file)."""
    if there.paths.input.exists():
        index_folder(there, given, may_be_empty)
    if (there.paths.folds / "index.parquet").exists():
        return True
    print("  would answer what the index will list")
    return False


def unpacked(context: Context, pictures: Path, out: Path) -> Path:
    """The folder of the pictures: ``pictures``, or where a zip file was unpacked (``refused.csv``: what was left out)."""
    files = (out / "refused.csv",)
    if pictures.is_dir():
        files[0].unlink(missing_ok=True)  # of a zip file before
        return pictures
    context.make(Artifact("apply", 1, files, {}, facts={"archive": listing(pictures)}),
                 lambda: write_table(files[0], unpack(pictures, out / "unpacked")))
    return out / "unpacked"


def elsewhere(context: Context, pictures: Path, out: Path) -> Context:
    """The competition on other pictures, with what its final model needs; its results below ``out``."""
    there = placed(context, pictures, out)
    return replace(there, options=replace(context.options, only=tuple(needed(context)), folds=()))


def needed(context: Context) -> list[str]:
    """Names of the models that the final one descends from, itself among them."""
    members = {recipe.name: getattr(recipe, "members", ()) for recipe in context.competition.recipes}
    found, open_names = list[str](), [context.competition.models.final]
    while open_names:
        name = open_names.pop()
        if name not in members:
            raise UserError(f"{context.competition.models.final} reads {name}, whose predictions came as tables: it cannot "
                            "answer other pictures; leave it out of the members to make it able to")
        if name not in found:
            found.append(name)
            open_names += members[name]
    return found


def parts_of(index: pd.DataFrame, most: int) -> np.ndarray:
    """Number of each row's part, int [rows]: whole series in their order, until a part has ``most`` rows or more."""
    series = pd.factorize(index["series"])[0]
    ends = np.bincount(series).cumsum()
    starts = ends - np.bincount(series)
    return np.unique(starts // most, return_inverse=True)[1][series]


def answer(one: Context, deadline: Deadline | None, rows_later: int) -> Context:
    """Stages 02 to 07 on an index; the context says which views and folds answered, all without a deadline."""
    start = time.monotonic()
    apply_localizer(one)
    if not any_readable(one):
        return one
    cache(one)
    if not any_readable(one):
        return one
    if not deadline and not one.options.dry_run:
        (one.paths.out / PLAN).unlink(missing_ok=True)  # of a run before
    if deadline and not one.options.dry_run:
        one = deadline.cut(one, rows_later, time.monotonic() - start)
    make_all(one, per_fold(one, "predict with", one.experiments, partial(predict.predictions_artifact, split="test"),
                           partial(predict.predict_fold, split="test")))
    make_all(one, per_fold(one, "predict with", one.sequences, sequence.applied_artifact, sequence.predict_sequence))
    for stacker in one.stackers:
        stack.apply_stack(one, stacker)
    return one


def _part(there: Context, number: int, rows: pd.DataFrame, deadline: Deadline | None, rows_later: int, keep: Keep,
          decided: dict[str, Any]) -> None:
    """Answer one part in a folder of its own; keep ``answers.parquet``, ``quarantine.csv`` and the tables of ``keep``.

    ``decided`` is what decides the answers beside the pictures.
    """
    folder = _folder(there, number)
    one = replace(there, paths=replace(there.paths, out=folder))
    index, raw = one.paths.folds / "index.parquet", digest(stamps(one.paths.input, rows["path"]))
    files = (folder / "answers.parquet", folder / "quarantine.csv", *(folder / f"{name}.parquet" for name in keep))

    def build() -> dict[str, Any]:
        done = answer(one, deadline, rows_later)
        write_table(files[0], answers(done))
        aside = _concat((one.paths.cache / "quarantine.csv", one.paths.cache / LOST))
        write_table(files[1], aside)
        for file, make in zip(files[2:], keep.values()):
            write_table(file, make(done))
        return {"passing": int(passing(aside["reason"]).sum())}

    _write_index(there, index, rows, raw)
    if index.exists():
        # A plan that was cut for time gives other answers by the same weights.
        how = decided | {"hours": deadline.hours if deadline else 0}
        there.make(Artifact("apply", 1, files, how, (Part(index, "test"),), {"raw files": raw}), build)
    if not there.options.dry_run:
        shutil.rmtree(one.paths.cache, ignore_errors=True)
        shutil.rmtree(one.paths.oof, ignore_errors=True)


def weights_digest(there: Context) -> str:
    """Digest of what the models that answer, and the networks that find the anatomy, have learned."""
    localizer, folder = there.competition.localizer, there.paths.weights
    found = [kind_of(localizer).applied_artifact(there, localizer, fold).inputs for fold in folds_of(there)]
    files = [path for inputs in found for path in inputs if isinstance(path, Path)]
    models: list[Any] = [*there.experiments, *there.sequences, *there.stackers]
    for one, fold in ((model, fold) for model in models for fold in there.all_folds(model)):
        files += (network_files(there, one, fold) if isinstance(one, Experiment) else
                  [sequence.weights_file(there, one, fold)] if isinstance(one, Sequence) else
                  fitted_files(folder / one.name, fold))
    return digest([["/".join(path.parts[-2:]), content_hash(path)] for path in files])


def deciding(there: Context) -> dict[str, Any]:
    """What decides the answers beside pictures and weights: the same weights may answer otherwise."""
    competition = there.competition
    shown = {"show", "advice", "detectors"}  # what people see, and what could be chosen
    finds = {name: value for name, value in set_fields(competition.localizer).items() if name not in shown}
    return {"models": [competition.recipe(name) for name in needed(there)], "localizer": finds, "cache": competition.cache,
            "picture": competition.data.picture, "metric": competition.metric.key, "row": competition.submission.row,
            "methods": {one.name: stack.facts_of(there, one)["code of the method"] for one in there.stackers}}


def _write_index(there: Context, index: Path, rows: pd.DataFrame, raw: str) -> None:
    def write() -> dict[str, Any]:
        write_table(index, rows)
        return {"splits": split_digests(rows)}

    facts = {"raw files": raw, "rows": split_digests(rows)["test"]}
    there.make(Artifact("apply", 1, (index,), {}, facts=facts), write)


def again(there: Context, rows: pd.DataFrame) -> Context:
    """The competition with pixels and tables of ``rows`` of the index: all of a folder of one part has them still.

    Of a folder of several parts these rows are answered once more, in a folder of their own.
    """
    if not _joined(there).exists():
        return there
    one = replace(there, paths=replace(there.paths, out=there.paths.out / "again"))
    rows = rows.reset_index(drop=True)
    _write_index(one, one.paths.folds / "index.parquet", rows, digest(stamps(one.paths.input, rows["path"])))
    return answer(one, None, 0)


def kept(there: Context, keep: Keep, name: str) -> pd.DataFrame:
    """The table ``name`` of ``keep`` for the whole folder, whose parts follow each other."""
    file = _joined(there).with_name(f"{name}.parquet")
    return pd.read_parquet(file) if _joined(there).exists() else keep[name](there)


def _join(there: Context, count: int, names: tuple[str, ...]) -> None:
    folders = [_folder(there, number) for number in range(count)]
    for name in ("answers", *names):
        tables = [pd.read_parquet(one / f"{name}.parquet") for one in folders]
        whole = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
        write_table(_joined(there).with_name(f"{name}.parquet"), whole)
    write_table(there.paths.cache / "quarantine.csv", _concat(one / "quarantine.csv" for one in folders))


def _folder(there: Context, number: int) -> Path:
    return there.paths.out / "parts" / f"{number:04d}"


def _joined(there: Context) -> Path:
    """Answers of a folder that was worked on in parts."""
    return there.paths.out / "parts" / "answers.parquet"


def _concat(files: Any) -> pd.DataFrame:
    tables = [pd.read_csv(file, dtype="str", keep_default_na=False) for file in files if file.exists()]
    return pd.concat([table for table in tables if len(table)] or [pd.DataFrame(columns=QUARANTINE_COLUMNS)],
                     ignore_index=True)


def answers(there: Context, by_picture: bool = False) -> pd.DataFrame:
    """``id`` and targets: what the final model says of the pictures, one row a submission's row.

    With ``by_picture`` one row a picture, of a folder or part that is worked on as one.
    """
    if _joined(there).exists():
        return pd.read_parquet(_joined(there))
    name, targets = there.competition.models.final, list(there.competition.targets)
    if not any_readable(there):
        return pd.DataFrame({"id": pd.Series(dtype="str"), **dict.fromkeys(targets, pd.Series(dtype=np.float32))})
    tables = [pd.read_parquet(fold_file(there.paths.oof / name, fold, "test")).assign(fold=fold)
              for fold in stack.stack_folds(there, name)]
    said = mean_over_folds(pd.concat(tables, ignore_index=True), there.competition.targets)
    return said if by_picture else by_row(there, said)


def write_answers(there: Context, out: Path, sample: Path | None) -> pd.DataFrame:
    """Write the final model's answers as the competition's submission, and ``<out>_quarantine.csv`` beside it.

    Every input file is behind a row of ``out`` or in the quarantine. With ``sample``, an organizer's list, each of its ids
    has a row; one without a usable picture gets a guess (:data:`radstack.submission.forms.FILLS`; with few answers the prior
    of training, :func:`radstack.stages.submit.prior_of`) and a quarantine row.

    Returns:
        The quarantine.
    """
    from radstack.submission.forms import sample_of, write_predictions

    layout, targets, paths = there.competition.submission, there.competition.targets, there.paths
    predicted = answers(there)
    with tempfile.TemporaryDirectory() as folder:
        listed = sample
        if listed is None:
            listed = Path(folder) / "sample.csv"
            write_table(listed, sample_of(predicted["id"], targets, layout))
        else:
            predicted = predicted[predicted["id"].isin(_pictures(listed, targets, layout))]
        filled = write_predictions(out, predicted, listed, targets, layout, prior_of(there))
    lost = pd.DataFrame({"id": filled.iloc[:, 0], "split": "test", "path": "", "reason": "no-picture",
                         "detail": "listed, without a usable picture: it got the prior"})
    quarantine = _concat(quarantines(paths).values())
    parts = (quarantine, _unanswered(there, predicted, quarantine, sample is not None), lost)
    quarantine = pd.concat([part for part in parts if len(part)] or [quarantine], ignore_index=True)
    write_table(out.with_name(f"{out.stem}_quarantine.csv"), quarantine)
    return quarantine


def _pictures(sample: Path, targets: tuple[str, ...], layout: Layout) -> pd.Series:
    """The pictures (or volumes) that an organizer's list names."""
    from radstack.submission.forms import read_ids, target_codes

    ids = read_ids(sample, layout)
    if layout.form != "long":
        return ids
    codes = target_codes(ids, targets)
    return pd.Series([name[:-len(targets[code]) - 1] for name, code in zip(ids, codes)], dtype="str")


def _unanswered(there: Context, predicted: pd.DataFrame, quarantine: pd.DataFrame, listed: bool) -> pd.DataFrame:
    """Quarantine rows of the index's files that are neither behind an answer nor in the quarantine."""
    index = read_index(there)
    open_rows = index[~index[there.competition.submission.row].isin(predicted["id"])
                      & ~index["path"].isin(quarantine["path"])].drop_duplicates("path")
    reason, detail = ("not-in-sample", "the list does not name it") if listed else ("no-answer", "no model answered it")
    return open_rows[["id", "path"]].assign(split="test", reason=reason, detail=detail)[QUARANTINE_COLUMNS]
