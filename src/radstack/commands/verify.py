"""A demo held against recorded values, stage by stage: the first divergence says where to look.

Values are numbers and digests of what each stage left. No file of truth is read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radstack.commands.products import STAGES, products
from radstack.core.artifact import check_unedited, manifest_of, packages
from radstack.core.errors import UserError
from radstack.core.files import files_below, read_json, read_table, sha256, write_json
from radstack.core.folds import check_folds, fold_hash
from radstack.core.progress import track
from radstack.core.recipe import digest
from radstack.images.shards import Shards, shard_path
from radstack.report.stage import boxes_of
from radstack.report.terminal import some
from radstack.running.context import Context
from radstack.running.tables import read_folds, read_index, read_rows
from radstack.scoring.metrics import normalized
from radstack.stack.predictions import read_member
from radstack.stages.stack import stack_folds
from radstack.submission.forms import validate

Fact = tuple[Any, float | None]
"""A value and how far another may be from it: 0 for equal, None where a difference is only worth a note (bits)."""
Facts = dict[str, Fact | UserError]
"""Name -> what was reached, or why nothing was."""

SEED_NOISE = 0.15
"""Share of a score by which a good run may miss it. Six demo networks trained again with another seed moved by 1 to 11 %;
on the same machine scores are equal to the bit, and another CPU or library should move them no more than a seed does."""
CONSTANT_NOISE = 0.1
"""The same as a share of the constant predictor's score, for scores that are near zero."""
PICTURES, SHARE, LENGTH = 0.02, 0.05, 0.25
"""Relative tolerance of sizes and gray levels; absolute one of what lies within 0 and 1 (Dice, overlap, rates); relative one
of other measures of localization (pixels, degrees)."""

NOT_IN_BOTH = "is not in both records; where recipes changed, record anew with --record"


@dataclass(frozen=True)
class Line:
    """One value beside what was expected."""

    stage: str
    """``00`` .. ``08``."""
    name: str
    state: str
    """``ok``, ``differs`` or ``other bits``, which is no fault."""
    words: str
    """Reached and expected."""


def verify(context: Context, file: Path) -> None:
    """Compare what is there with the values of ``file`` for the same number of series, and print every line; then read all.

    Raises:
        UserError: something differs; the first divergence and those after it are named. Or nothing is recorded.
    """
    size = demo_size(context)
    known = read_json(file) if file.exists() else {}
    if size not in known:
        raise UserError(f"no expected values of {context.competition.name} with {size} series (known: "
                        f"{', '.join(known) or 'none'}); draw as many with {context.command(STAGES[0])} --demo-size N, or "
                        f"record these: {context.command('verify')} --record")
    lines = compare(known[size]["stages"], reached(context))
    for line in lines:
        print(f"stage {line.stage}  {line.state:10}  {line.name}: {line.words}")
    here = packages()
    other = [f"{name} {version} (here {here.get(name, 'none')})" for name, version in known[size]["packages"].items()
             if here.get(name) != version]
    if other:
        print(f"recorded with other packages: {', '.join(other)}")
    differing = [line for line in lines if line.state == "differs"]
    if differing:
        raise UserError(_verdict(context, differing))
    check_contents(context)
    print(f"{context.competition.title}: all {len(lines)} values of {size} series are as expected")


def check_contents(context: Context) -> None:
    """Read every file that a stage made, and hold it against its manifest.

    Stages believe a file whose size and time are those of its manifest; here a change that kept both is found as well.

    Raises:
        UserError: a file has another content than it was made with; the first is named. Or none is made yet.
    """
    paths = context.paths
    of_sources = [one for one in paths.sources.glob("*/*") if one.is_dir() and one.name != "input"]  # a link to pictures
    folders = (paths.folds, paths.cache, paths.weights, paths.oof, *of_sources, paths.submissions, paths.reports)
    made = [path for folder in folders if folder.exists() for path in files_below(folder) if manifest_of(path).exists()]
    made += [path for path in paths.sources.glob("*/*") if path.is_file() and manifest_of(path).exists()]
    stamps = {path: read_json(manifest_of(path)).get("files", {}).get(path.name, {}) for path in sorted(made)}
    known = {path: stamp["sha256"] for path, stamp in stamps.items() if stamp}
    if not known:
        raise UserError(f"no file of {context.competition.title} is made yet; begin with {context.command(STAGES[0])}")
    with track(len(known), "contents, files", brief=True) as steps:
        other = [path for path, content in steps.over(known.items()) if sha256(path) != content]
    if other:
        raise UserError(f"{some(list(map(str, other)), ', ')}: not the content it was made with; delete it and run its "
                        "stage again")
    print(f"{context.competition.title}: {len(known):,} files have the content that they were made with")


def record(context: Context, file: Path, widen: bool = False) -> None:
    """Write what is there into ``file`` as what is expected of this number of series; other numbers stay.

    With ``widen`` what was recorded stays expected as well: for the same recipes and packages on another processor, where
    small networks end elsewhere.

    Raises:
        UserError: a stage is not done; or, with ``widen``, something differs that no processor changes, or the packages do.
    """
    size, facts = demo_size(context), reached(context)
    failures = [(stage, error) for stage, found in facts.items() for error in found.values() if isinstance(error, UserError)]
    if failures:
        raise UserError(f"nothing recorded: stage {failures[0][0]} is not done ({failures[0][1]})")
    known = read_json(file) if file.exists() else {}
    if widen:
        if known.get(size, {}).get("packages") != packages():
            raise UserError(f"{size} series were not recorded with these packages, so there is nothing to widen; record "
                            f"them anew: {context.command('verify')} --record")
        facts = widened(known[size]["stages"], facts)
    entry = {"packages": packages(), "stages": facts}
    write_json(file, dict(sorted({**known, size: entry}.items(), key=lambda item: int(item[0]))))
    print(f"recorded {sum(map(len, facts.values()))} values of {size} series in {file}")


def widened(expected: dict[str, dict[str, list[Any]]], found: dict[str, Facts]) -> dict[str, Facts]:
    """``found`` with ranges that hold what was expected, too; bits stay those of the first record.

    Raises:
        UserError: what must be equal is not, or one of the two lacks a value.
    """
    for stage, values in expected.items():
        for name in values.keys() - found.get(stage, {}).keys():
            raise UserError(f"stage {stage}, {name} {NOT_IN_BOTH}")
    return {stage: {name: _widened(f"stage {stage}, {name}", expected.get(stage, {}).get(name), fact)
                    for name, fact in facts.items()} for stage, facts in found.items()}


def _widened(what: str, pair: list[Any] | None, fact: Fact | UserError) -> Fact:
    if pair is None or isinstance(fact, UserError):
        raise UserError(f"{what} {NOT_IN_BOTH}")
    (value, tolerance), (own, margin) = pair, fact
    if margin is None or tolerance is None:
        return value, None
    if not margin and not tolerance:
        if own != value:
            raise UserError(f"{what}: {own}, recorded {value}, which no processor changes; where recipes changed, record "
                            "anew with --record")
        return fact
    low, high = min(value - tolerance, own - margin), max(value + tolerance, own + margin)
    return _digits((low + high) / 2), _digits((high - low) / 2)


def demo_size(context: Context) -> str:
    """The number of series that were drawn.

    Raises:
        UserError: not a whole demo as its recipes say, or nothing is drawn.
    """
    options, drawn = context.options, manifest_of(context.paths.input)
    if not context.competition.phantoms or options.limit or options.edits:
        raise UserError("only a whole demo has expected values: add --demo, leave --limit and --set away")
    if not drawn.exists():
        raise UserError(f"{context.paths.input} is not drawn; make it with: {context.command(STAGES[0])}")
    return str(read_json(drawn)["series"])


def compare(expected: dict[str, dict[str, list[Any]]], found: dict[str, Facts]) -> list[Line]:
    """Lines in the order of the stages; ``expected`` holds [value, tolerance] pairs. What a stage lacks is one line."""
    lines = []
    for stage in sorted(expected):
        facts, absent = found[stage], [name for name in expected[stage] if name not in found[stage]]
        lines += [_line(stage, name, pair, facts[name]) for name, pair in expected[stage].items() if name in facts]
        if absent:
            lines.append(Line(stage, some(absent, ", "), "differs", str(facts.get("stage", "not there"))))
    return lines


def _line(stage: str, name: str, pair: list[Any], fact: Fact | UserError) -> Line:
    value, tolerance = pair
    if isinstance(fact, UserError):
        return Line(stage, name, "differs", str(fact))
    own = fact[0]
    if tolerance is None:
        return Line(stage, name, *(("ok", "the same") if own == value else (
            "other bits", "close counts here: another CPU or library rounds otherwise")))
    inside = abs(own - value) <= tolerance if tolerance else own == value
    margin, shown = f" ± {tolerance:.4g}" if tolerance else "", f"{own:.6g}" if isinstance(own, float) else own
    return Line(stage, name, "ok" if inside else "differs", f"{shown}, expected {value}{margin}")


def _verdict(context: Context, differing: list[Line]) -> str:
    """The first divergence, those of its stage, those after it, and what to do."""
    first = differing[0]
    same = some([line.name for line in differing[1:] if line.stage == first.stage], ", ")
    after = some([f"{line.stage} {line.name}" for line in differing if line.stage > first.stage], ", ")
    script = next(script for script in STAGES if script.startswith(first.stage))
    return (f"stage {first.stage} is the first to diverge: {first.name}: {first.words}"
            f"{f'; with it {same}' if same else ''}{f'; after it {after}' if after else ''}"
            f"; {context.command(script)} --dry-run says whether anything is stale")


def reached(context: Context) -> dict[str, Facts]:
    """Stage (``00`` .. ``08``) -> its facts. No file of truth is read."""
    found: dict[str, Facts] = {}
    for stage, gather in GATHERERS.items():
        try:
            found[stage] = gather(context)
        except UserError as error:
            found[stage] = {"stage": error}
    return found


def raw_files(context: Context) -> Facts:
    """Names and total size; time stamps differ from machine to machine, and compressed sizes a little."""
    folder = context.paths.input
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise UserError(f"{folder} is empty; make it with: {context.command('00_get_data')} --demo-size N")
    size = sum(path.stat().st_size for path in files) / 1e6
    return {"files": (len(files), 0), "names": (digest([path.relative_to(folder).as_posix() for path in files]), 0),
            "megabytes": _near(size, PICTURES)}


def folds(context: Context) -> Facts:
    """Rows, labels and folds are equal everywhere: they hang on seeds and counting alone."""
    index, table, targets = read_index(context), read_folds(context), list(context.competition.targets)
    check_folds(table, index, targets)
    quarantine = read_table(context.paths.folds / "quarantine.csv", context.command("01_make_folds"))
    splits, reasons = index["split"].value_counts(), quarantine["reason"].value_counts()
    labels = index[targets].astype(float).round(3).fillna(-1).to_numpy().tolist()
    return {"fold table": (fold_hash(table), 0), "index": (digest(index[["id", "split", "group"]].to_numpy().tolist()), 0),
            "labels": (digest(labels), 0), **{f"{split} rows": (int(splits[split]), 0) for split in sorted(splits.index)},
            **{f"quarantine {reason}": (int(reasons[reason]), 0) for reason in sorted(reasons.index)}}


def localized(context: Context) -> Facts:
    """Rows, flags, and the measures of ``reports/<comp>/localization.csv``, which stage 09 writes."""
    paths = context.paths
    boxes = boxes_of(context)
    bad = read_table(paths.cache / "quarantine.csv", context.command("02_localize"))
    flags = [name for name in boxes if name.endswith("flag")]
    flagged = int((boxes[flags] != "").any(axis=1).sum()) if flags else 0
    facts: Facts = {"rows": (len(boxes), 0), "quarantined": (len(bad), 0), "flagged": (flagged, max(3, flagged // 2)),
                    "bits of pictures": (digest(boxes["crc"].tolist()), None)}
    if not context.competition.pages.localization_score:
        return facts
    try:
        return facts | measures(read_table(paths.reports / "localization.csv", context.command("09_report")))
    except UserError as error:
        return {**facts, "stage": error}


def measures(table: pd.DataFrame) -> Facts:
    """``measure`` and ``value`` as facts; counts are left out, as rows and flags are counted from the table itself."""
    chosen = table[~(table["measure"].str.startswith("flagged") | ((table["value"] > 1) & (table["value"] % 1 == 0)))]
    return {name: (_digits(value), SHARE if 0 <= value <= 1 else _digits(LENGTH * abs(value)))
            for name, value in zip(chosen["measure"], chosen["value"])}


def cached(context: Context) -> Facts:
    """Rows, mean and spread of the cached pictures; their bits hang on the CPU's rounding."""
    rows, _ = read_rows(context)
    folder, numbers = context.paths.cache, sorted(set(rows["shard"]))
    pictures = Shards(folder)
    each = (pictures(shard, slot) for shard, slot in zip(rows["shard"], rows["slot"]))
    mean, spread = np.mean([(np.mean(one), np.std(one)) for one in each], axis=0).tolist()
    return {"rows": (len(rows), 0), "shards": (len(numbers), 0), "mean": _near(mean, PICTURES),
            "spread": _near(spread, PICTURES),
            "bits": (digest([_hash(shard_path(folder, number)) for number in numbers]), None)}


def networks(context: Context) -> Facts:
    """How many are trained; what they are worth is stage 05's to say."""
    files = [product.files[0] for product in products(context) if product.script == "04_train"]
    there = [file for file in files if manifest_of(file).exists() and file.exists()]
    return {"networks": (len(there), 0), "bits": (digest([_hash(file) for file in there]), None)}


def scores(context: Context, recipes: tuple[Any, ...]) -> Facts:
    """Out-of-fold score of each recipe's tables; of those that answer some groups of classes, the mean over these."""
    rows, _ = read_rows(context)
    targets, metric = list(context.competition.targets), context.competition.metric
    labels = rows.loc[rows["split"] == "train", ["id", *targets]].set_index("id")[targets].astype(float)
    constant = metric.score(labels.to_numpy(), np.tile(metric.constant(labels).to_numpy(float), (len(labels), 1)))
    facts: Facts = {}
    for name in (recipe.name for recipe in recipes):
        try:
            table = read_member(context.paths.oof / name, stack_folds(context, name)).oof
        except UserError as error:
            facts[name] = error
            continue
        losses = metric.target_losses(labels.loc[table["id"]].to_numpy(), table[targets].to_numpy(float))
        parts = np.isfinite(losses)
        score = float(losses[parts] @ normalized(np.array(metric.weights, float)[parts]))
        facts[name] = (_digits(score), _digits(max(SEED_NOISE * score, CONSTANT_NOISE * constant)))
    return facts


def submission(context: Context) -> Facts:
    """What the validator counts, how many rows had no prediction, mean of the values."""
    competition, layout = context.competition, context.competition.submission
    file = context.paths.submissions / f"{competition.models.final}.csv"
    rows = validate(file, competition.data.sample_file(context.paths.input), layout, competition.metric.groups)
    values, filled, constant = (read_table(one, context.command("08_submit")) for one in (
        file, file.with_name(f"{competition.models.final}_filled.csv"), file.with_name("constant.csv")))
    own, known = values[list(layout.values)].to_numpy(float), constant[list(layout.values)].round(6).to_numpy()
    return {"rows": (rows, 0), "filled": (len(filled), 0), "constant": (digest(known.tolist()), 0),
            "mean": (_digits(own.mean()), _digits(own.std() / 4)), "bits": (_hash(file), None)}


GATHERERS: dict[str, Callable[[Context], Facts]] = {
    "00": raw_files, "01": folds, "02": localized, "03": cached, "04": networks,
    "05": lambda context: scores(context, context.competition.models.experiments),
    "06": lambda context: scores(context, context.competition.models.sequences),
    "07": lambda context: scores(context, context.competition.models.stackers),
    "08": submission,
}
"""Stage -> what gathers its facts, in order."""


def _near(value: float, share: float) -> Fact:
    return _digits(value), _digits(share * abs(value))


def _digits(value: float) -> float:
    """Six digits: more would differ with the order of a sum."""
    return float(f"{value:.6g}")


def _hash(path: Path) -> str:
    """The hash that the file's manifest recorded, checked against the file."""
    return check_unedited(path, read_json(manifest_of(path))["files"][path.name])
