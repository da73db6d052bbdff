"""Audit of a competition for leaks: what the stages refuse to do is looked for again in what they left.

The truth of phantoms is not read.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from radstack.core.artifact import Artifact, check_unedited, content_hash, manifest_of
from radstack.core.errors import LeakError, UserError
from radstack.core.files import read_json, write_table
from radstack.core.folds import fold_hash, fold_of, patients_on_both_sides
from radstack.images.duplicates import DISTANCE
from radstack.recipes.experiment import Experiment
from radstack.recipes.stacker import Outside
from radstack.report.stage import made_folds, models
from radstack.report.terminal import some
from radstack.running.context import Context, make_variants
from radstack.running.tables import read_folds, read_index
from radstack.stack.predictions import read_member, read_networks
from radstack.stack.rows import Member
from radstack.stages.pseudo import unlike
from radstack.stages.sources import ROWS, checked_artifact, copies, facts_of, known_sources, read_source

OK, LEAK, WARN = "ok", "LEAK", "warn"
NAMED = 10
"""Pairs of near duplicates that are printed; the table holds all."""


@dataclass(frozen=True)
class Finding:
    """One line of the audit."""

    check: str
    status: str
    """``OK``, ``LEAK`` or ``WARN``."""
    detail: str

    def __str__(self) -> str:
        return f"  {self.status:4}  {self.check}: {self.detail}"


@dataclass(frozen=True)
class Scene:
    """What every check is held against."""

    context: Context
    index: pd.DataFrame
    folds: pd.DataFrame
    part: pd.Series
    """id -> fold of its patient, -1 for test."""
    rows: pd.DataFrame | None
    """The row table of stage 03, once it is made."""


def leak_audit(context: Context, distance: int, train: str = "") -> None:
    """Make every check, print a line each, write ``leak_audit.csv`` and ``near_duplicates.csv``.

    Levels that are not made yet are said to be so. The hashes of near duplicates may differ by ``distance`` bits of 255;
    the experiment ``train`` is trained on shuffled labels, "" for none.

    Raises:
        LeakError: something leaks; all checks are made before.
        UserError: stage 01 was not run, ``distance`` is out of range, or ``train`` is unknown.
    """
    if not 0 <= distance <= 64:
        raise UserError(f"--distance {distance} is not between 0 and 64; 10 is the default")
    scene = open_scene(context)
    checks: list[Callable[[Scene], list[Finding]]] = [
        patients, cached, localized, trained_networks, prediction_tables, lambda scene: pictures(scene, distance), sources,
        pseudo_labels, stack_canaries, *([lambda scene: network_canary(scene, train)] if train else [])]
    findings: list[Finding] = []
    for check in checks:
        findings += (found := check(scene))
        print("\n".join(map(str, found)), flush=True)
    file = context.paths.reports / "leak_audit.csv"
    manifest_of(file).unlink(missing_ok=True)  # of the one that stage 09 made, which it then makes again
    write_table(file, pd.DataFrame([vars(finding) for finding in findings]))
    leaks = sum(finding.status == LEAK for finding in findings)
    if leaks:
        raise LeakError(f"{leaks} of {len(findings)} checks found a leak; see {file}")
    print(f"  no leak in {len(findings)} checks; {file}")


def audit_once(context: Context) -> None:
    """Make every check without training, unless that was done on these rows and folds; LeakError as :func:`leak_audit`."""
    paths = context.paths
    more = [paths.sources / name / ROWS for name in known_sources(context) if facts_of(context, name)]
    artifact = Artifact("leak_audit", 1, (paths.reports / "leak_audit.csv",), {},
                        (paths.cache / "rows.parquet", paths.folds / "folds.csv", *more,
                         *sorted((paths.cache / "pseudo").glob("*/*.parquet"))))
    context.make(artifact, lambda: leak_audit(context, DISTANCE))


def open_scene(context: Context) -> Scene:
    """The tables of stage 01."""
    index, folds = read_index(context), read_folds(context)
    once = folds.drop_duplicates("group")  # a patient in two folds is a finding, and no reason to stop
    file = context.paths.cache / "rows.parquet"
    return Scene(context, index, folds, pd.Series(fold_of(index, once).to_numpy(), index["id"]).groupby(level=0).first(),
                 pd.read_parquet(file) if file.exists() else None)


def patients(scene: Scene) -> list[Finding]:
    """No patient in two folds, or in train and test; no id twice; every training patient has a fold."""
    twice = sorted(scene.folds.loc[scene.folds["group"].duplicated(), "group"])
    train = scene.index.loc[scene.index["split"] == "train", "group"]
    missing = sorted(set(train) - set(scene.folds["group"]))
    ids = scene.index.loc[scene.index["id"].duplicated(), "id"].tolist()
    both = patients_on_both_sides(scene.index)
    # What an organizer dealt so cannot be dealt again; out-of-fold scores do not suffer, test scores do.
    status = WARN if scene.context.competition.data.kaggle else LEAK
    return [_none("patients in two folds", twice, f"{scene.folds['group'].nunique():,} patients, each in one fold"),
            _none("patients without a fold", missing, f"{train.nunique():,} training patients have one"),
            _none("ids twice in the index", ids, f"{len(scene.index):,} ids"),
            _none("patients in train and test", both, "none", status)]


def cached(scene: Scene) -> list[Finding]:
    """The cached rows have the index's patients and splits."""
    if scene.rows is None:
        return [_not_made("cached rows", scene, "03_cache")]
    rows, known = scene.rows, scene.index.drop_duplicates("id").set_index("id").reindex(scene.rows["id"])
    wrong = (known[["group", "split"]].to_numpy() != rows[["group", "split"]].to_numpy()).any(axis=1)
    return [_none("cached rows", rows.loc[wrong | rows["id"].duplicated().to_numpy(), "id"].tolist(),
                  f"{len(rows):,} rows, patient and split as in the index")]


def localized(scene: Scene) -> list[Finding]:
    """What fold k's localization networks found is of fold k and of test alone, on this fold table."""
    files = sorted((scene.context.paths.cache / "found").glob("fold*.parquet"))
    problems = []
    for file in files:
        ids, test = pd.read_parquet(file, columns=["id"])["id"], file.stem.endswith("_test")
        own = {-1} if test else {int(file.stem.removeprefix("fold"))}
        told = ("" if test else _other_folds(scene, file), _strangers(scene, ids, own), _twice(ids))
        problems += [f"{file.name}: {text}" for text in told if text]
    count = sum(not file.stem.endswith("_test") for file in files)
    done = f"{count} folds' networks answer for their fold and test alone" if files else "by rules, nothing is trained"
    return [_none("localization", problems, done)]


def trained_networks(scene: Scene) -> list[Finding]:
    """Every weights file is the one its manifest recorded, of the fold in its name, trained on this fold table."""
    made = sorted(scene.context.paths.weights.glob("*/fold*.safetensors"))
    # What a stack learned has a manifest of its own for all folds; studies make stacks that are in no recipe here.
    files = [file for file in made if not _is_stacks(file)]
    used, problems = _used(scene.context), {True: list[str](), False: list[str]()}
    for file in files:
        if text := _other_folds(scene, file):
            problems[file.parent.name in used].append(f"{file.parent.name}/{file.name}: {text}")
    unused = [Finding("weights that no stage reads", WARN, some(problems[False], most=NAMED))] if problems[False] else []
    return [_none("weights", problems[True], f"{len(files) - len(problems[False])} files, all trained on this fold table"),
            *unused]


def _used(context: Context) -> set[str]:
    """Names of the networks that the stages train, that have predictions, or that one of these starts from or answers by.

    Others on call, those of studies and of recipes that are gone are not among them.
    """
    models, variants = context.competition.models, make_variants(context.competition, context.paths)
    predicted = [one for one in models.on_call if made_folds(context, one.name)]
    found = {one.name: one for one in (*models.experiments, *variants, *predicted)}
    known = {one.name: one for one in (*models.on_call, *found.values())}
    todo = [one for one in found.values() if isinstance(one, Experiment)]
    while todo:
        one = todo.pop()
        for name in {one.backbone.start, context.trained_as(one).name} & {*known} - {*found}:
            found[name] = known[name]
            todo.append(known[name])
    return {*found, *(one.name for one in (*models.sequences, *context.competition.localizer.networks))}


def prediction_tables(scene: Scene) -> list[Finding]:
    """Every model's rows come from their patient's fold, once each, on this fold table, without test rows."""
    try:
        names = models(scene.context)
    except UserError:
        return [_not_made("predictions", scene, "04_train")]
    problems, count, marked = [], 0, list[str]()
    for name in names:
        folds = made_folds(scene.context, name)
        try:
            member = read_member(scene.context.paths.oof / name, folds)
            single = read_networks(scene.context.paths.oof / name, folds)
        except UserError as error:
            problems.append(str(error))
            continue
        problems += [f"{name}, {one}: {text}" for one, table in single.items()
                     for text in member_problems(scene, replace(member, oof=table)) if text]
        count += len(member.oof)
        marked += [f"{name}, {member.mark}"] * bool(member.mark)
        problems += [f"{name}: {text}" for text in member_problems(scene, member) if text]
    return [_none("predictions", problems, f"{len(names)} models, {count:,} rows, each out of its patient's fold"),
            *([Finding("predictions of others", WARN, "may enter plain averages alone: " + some(marked, most=NAMED))]
              if marked else []), *suspects(scene)]


def suspects(scene: Scene) -> list[Finding]:
    """Predictions that came as tables and look too good."""
    return [Finding("predictions of others", WARN, f"{one.name}: {line}") for one in scene.context.recipes
            if isinstance(one, Outside) for line in one.suspected]


def member_problems(scene: Scene, member: Member) -> list[str]:
    """What is wrong with the tables of one model, a line each; "" for nothing."""
    own = member.oof["id"].map(scene.part)
    moved = member.oof.loc[own.notna() & (own >= 0) & (own != member.oof["fold"]), "id"]
    other = fold_hash(scene.folds) != member.folds_hash
    return ["made on another fold table" if other else "",
            f"{moved.iloc[0]} is not scored in its patient's fold ({len(moved)} rows)" if len(moved) else "",
            _strangers(scene, member.oof["id"], set(range(scene.folds["fold"].max() + 1))), _twice(member.oof["id"]),
            _strangers(scene, member.test["id"], {-1}), _twice(member.test["fold"].astype(str) + " " + member.test["id"])]


def pictures(scene: Scene, distance: int) -> list[Finding]:
    """Equal and nearly equal pictures of different patients across folds and across train and test; writes the pairs."""
    from radstack.images.duplicates import EXACT, duplicates

    if scene.rows is None:
        return [_not_made("copies", scene, "03_cache")]
    context, rows = scene.context, scene.rows
    part = rows["id"].map(scene.part).fillna(-1).to_numpy(int)
    pairs, counts = duplicates(context.paths.cache, rows, part, distance, context.options.workers)
    write_table(context.paths.reports / "near_duplicates.csv", pairs)
    seen = f"{counts['pictures'] - counts['empty']:,} pictures, {counts['empty']:,} empty ones left out"
    lines: dict[bool, list[str]] = {True: [], False: []}
    for pair in pairs.itertuples():
        ends = [f"{name} ({group}, {'test' if fold < 0 else f'fold {fold}'})" for name, group, fold in (
            (pair.id, pair.group, pair.fold), (pair.other_id, pair.other_group, pair.other_fold))]
        lines[pair.kind in EXACT].append(f"{' and '.join(ends)}, {pair.kind}{', mirrored' * pair.mirrored}, correlation "
                                         f"{pair.correlation:.3f}")
    left = [f"{counts['left']:,} pairs were not compared; use a smaller --distance"] if counts["left"] else []
    return [_none("copies across folds", lines[True], f"none among {seen}"),
            _none("near duplicates across folds", left + lines[False],
                  f"none; {counts['pairs']:,} pairs within {distance} bits are different pictures", WARN)]


def sources(scene: Scene) -> list[Finding]:
    """No row of another source that trains is a picture here; none joined after the source was compared."""
    problems, old, count, context = [], [], 0, scene.context
    names = [name for name in known_sources(context) if facts_of(context, name)]
    for name in names if scene.rows is not None else ():
        try:
            rows = read_source(context, name)
            old += [f"{name} ({why})"] if (why := checked_artifact(context, name).why()) else []
        except UserError as error:
            problems.append(str(error))
            continue
        count += len(rows)
        found = copies(context, name, scene.rows, rows)
        problems += [f"{row.id} is {row.detail}" for row in found.itertuples()]
        problems += [f"{one} is a row here" for one in rows["id"][rows["id"].isin(scene.part.index)]]
    return [*([_none("rows of other sources", problems, f"{count:,} rows of {len(names)} sources, none of them a picture "
                     "here")] if names else []),
            *([Finding("other sources compared", WARN, f"with other rows than these: {', '.join(old)}; type: "
                       f"{context.command('add_source')} NAME")] if old else [])]


def pseudo_labels(scene: Scene) -> list[Finding]:
    """Rows that a model labeled for the network of a fold have what its part of that fold alone says."""
    context = scene.context
    taught = [one for one in context.recipes if isinstance(one, Experiment) and one.pseudo.model]
    problems, open_ones, count = [], [], 0
    for one in taught:
        for fold in context.all_folds(one):
            if not manifest_of(context.paths.weights / one.name / f"fold{fold}.safetensors").exists():
                continue
            count += 1
            try:
                told = unlike(context, one, fold)
            except LeakError as error:
                told = str(error)
            except UserError as error:
                open_ones.append(str(error))
                continue
            problems += [f"{one.name} fold {fold}: {told}"] if told else []
    return [*([_none("pseudo-labels", problems, f"of {count} networks, each by models that never met its fold")] if count
              else []), *([Finding("pseudo-labels not tried", WARN, some(open_ones, most=NAMED))] if open_ones else [])]


def stack_canaries(scene: Scene) -> list[Finding]:
    """The stackers below the final model, refitted to shuffled labels, must not beat the constant predictor."""
    from radstack.commands.canary import stacks

    try:
        trials = list(stacks(scene.context))
    except UserError as error:
        return [Finding("shuffled labels", LEAK if isinstance(error, LeakError) else WARN, f"not tried: {error}")]
    found = [Finding("shuffled labels", LEAK if trial.leaks else OK, str(trial)) for trial in trials]
    return found or [Finding("shuffled labels", OK, "the final model is built on no stacker that learns")]


def network_canary(scene: Scene, name: str) -> list[Finding]:
    """One network trained on shuffled labels must not beat the constant predictor."""
    from radstack.commands.canary import trained

    trial = trained(scene.context, name)
    return [Finding("shuffled labels, trained", LEAK if trial.leaks else OK, str(trial))]


def _none(check: str, problems: list[str], fine: str, status: str = LEAK) -> Finding:
    """A finding that is fine without ``problems``, and else names the first of them and their number."""
    return Finding(check, status, f"{len(problems)}: {some(problems, most=NAMED)}") if problems else Finding(check, OK, fine)


def _not_made(check: str, scene: Scene, script: str) -> Finding:
    return Finding(check, WARN, f"not made yet; make it with: {scene.context.command(script)}")


def _is_stacks(file: Path) -> bool:
    return manifest_of(file).exists() and read_json(manifest_of(file))["stage"] == "07_stack"


def _twice(ids: pd.Series) -> str:
    return f"{ids[ids.duplicated()].iloc[0]} is there twice" if ids.duplicated().any() else ""


def _strangers(scene: Scene, ids: pd.Series, allowed: set[int]) -> str:
    """Which of ``ids`` is unknown or of a part that is not ``allowed``; "" for none."""
    wrong = ids[~ids.map(scene.part).isin(allowed)]
    return f"{wrong.iloc[0]} does not belong here ({len(wrong)} rows)" if len(wrong) else ""


def _other_folds(scene: Scene, file: Path) -> str:
    """Whether ``file`` was made for another fold or fold table, or differs from its manifest; "" if all is well."""
    if not manifest_of(file).exists():
        return "has no manifest"
    manifest = read_json(manifest_of(file))
    try:
        check_unedited(file, manifest["files"][file.name])
    except UserError:
        return "was edited after it was made"
    if f"fold{manifest['recipe'].get('fold')}" != file.stem.partition("_")[0]:  # a seed or snapshot follows
        return f"was made for fold {manifest['recipe'].get('fold')}"
    table = scene.context.paths.folds / "folds.csv"
    same = manifest["inputs"].get("/".join(table.parts[-2:])) == content_hash(table)
    return "" if same else "was made on another fold table"
