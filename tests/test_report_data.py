"""Sections data and provenance on tiny sets: counts, windows, the way back, and what is out of date."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import tiny

from competitions import load
from radstack.core.artifact import Artifact, manifest_of
from radstack.core.files import write_json, write_table
from radstack.core.paths import Paths
from radstack.core.recipe import as_dict, change
from radstack.images.shards import shard_path, write_shard
from radstack.recipes.competition import CacheRecipe, Models
from radstack.recipes.stacker import Stacker
from radstack.report.blocks import Picture, Plot, Table, Words
from radstack.report.data import LISTED, data, gray
from radstack.report.evidence import Evidence
from radstack.report.page import page
from radstack.report.provenance import Made, flattened, in_words, provenance, remember
from radstack.running.context import Context, Options
from radstack.scoring.metrics import ClassGroup
from radstack.scoring.task import Metric, Task


def competition(**edits):
    """Two labels a slice, one network and its mean."""
    ich = load("ich")
    data = replace(ich.data, label_files=lambda folder: (folder / "labels.csv",), balance=None,
                   sample_file=lambda folder: folder / "sample.csv")
    made = replace(ich, name="tiny", targets=tiny.TARGETS, metric=Metric("weighted log loss", (1, 1)), data=data,
                   cache=CacheRecipe((tiny.SIDE, tiny.SIDE), 0, ()),
                   models=Models((tiny.EXPERIMENT,), (Stacker("final", "mean", ("tiny",)),), final="final"))
    return change(made, **edits)


@pytest.fixture()
def evidence(tmp_path) -> Evidence:
    """Sixteen series of six slices, a quarter of them test, in three folds, as stage 09 gathers them."""
    context = Context(competition(), Paths(tmp_path, tmp_path, "tiny", "tiny"), Options())
    rows, pictures = tiny.make_rows()
    write_shard(shard_path(context.paths.cache, 0), [lambda one=one: one for one in pictures], (tiny.SIDE, tiny.SIDE))
    train = rows[rows["split"] == "train"].reset_index(drop=True)
    folds = pd.DataFrame({"group": train["group"].unique()}).assign(fold=lambda table: np.arange(len(table)) % 3)
    write_table(context.paths.folds / "folds.csv", folds)
    fold = train["group"].map(folds.set_index("group")["fold"]).to_numpy()
    lost = pd.DataFrame(columns=["stage", "split", "path", "reason", "detail"])
    nothing = np.full((len(train), 2), np.nan, np.float32)
    task = Task(tiny.TARGETS, context.competition.metric)
    return Evidence(context, task, ["tiny", "final"], rows, lost, rows, train, fold, {"tiny": nothing, "final": nothing},
                    pd.DataFrame(), pd.DataFrame({"measure": [], "value": []}), None)


def tables(section) -> list[pd.DataFrame]:
    return [block.frame for block in section.blocks if isinstance(block, Table)]


def words(section) -> list[tuple[str, str]]:
    return [(block.tone, block.words) for block in section.blocks if isinstance(block, Words)]


def test_folds_and_labels_are_counted(evidence):
    section = data(evidence)
    sizes, labels = tables(section)[:2]
    sizes = sizes.set_index("part")
    assert sizes.loc["train", ["rows", "series", "patients", "used"]].tolist() == [72, 12, 12, 72]
    assert sizes.loc["test", ["rows", "series", "patients"]].tolist() == [24, 4, 4]
    assert sizes.loc[["fold 0", "fold 1", "fold 2"], "used"].tolist() == [24, 24, 24]
    left = evidence.train["left"] > 0.5
    assert labels.loc[0, ["rows", "series"]].tolist() == [left.sum(), evidence.train.loc[left, "series"].nunique()]
    drawings = [block for block in section.blocks if isinstance(block, Plot)]
    assert len(drawings) == 2 and all(len(block.svg) < 100_000 for block in drawings)
    assert len([block for block in section.blocks if isinstance(block, Picture)]) == 2
    assert "<img" in page("tiny", "", [section], [])


def test_shares_are_of_rows_with_a_label(evidence):
    half = evidence.train.assign(left=np.where(np.arange(len(evidence.train)) % 2, np.nan, evidence.train["left"]))
    labels = tables(data(replace(evidence, train=half)))[1].set_index("target")
    held = half["left"].dropna() > 0.5
    assert labels.loc["left", ["rows", "share of rows"]].tolist() == [held.sum(), held.mean()]


@dataclass(frozen=True)
class Spot:
    """White pictures, called ``left``, of the rows that have none; of every other seed."""

    def painter(self, reader, targets):
        def paint(row, picture, label, seed):
            if label.any() or seed % 2:
                return picture, label
            return np.full_like(picture, 255), np.array([1, 0], np.float32)
        return paint


def test_what_is_drawn_in_training_has_pictures_of_its_own(evidence):
    assert tiny.TARGETS == ("left", "right")
    painted = change(tiny.EXPERIMENT, name="painted", drawn=Spot())
    made = competition(models__experiments=(tiny.EXPERIMENT, painted))
    context = replace(evidence.context, competition=made)
    section = data(replace(evidence, context=context, names=["tiny", "painted", "final"]))
    _, plain, drawn = [block for block in section.blocks if isinstance(block, Picture)]
    assert plain.caption.startswith("Seen by tiny: ") and "drawn" not in plain.caption and plain.src != drawn.src
    assert drawn.caption.startswith("Seen by painted: ") and drawn.caption.endswith(
        "with what is drawn on training pictures (left, left, left, left, left, left).")


def test_patients_on_both_sides_are_named(evidence):
    assert not [line for tone, line in words(data(evidence)) if tone == "warn"]
    both = evidence.index.assign(group=evidence.index["group"].replace("p15", "p0"))
    warned = [line for tone, line in words(data(replace(evidence, index=both))) if tone == "warn"]
    assert len(warned) == 1 and "(1), such as p0:" in warned[0]


def test_one_fold_without_pictures_or_series_is_drawn(evidence):
    shard_path(evidence.context.paths.cache, 0).unlink()
    folds = pd.DataFrame({"group": evidence.train["group"].unique(), "fold": 0})
    write_table(evidence.context.paths.folds / "folds.csv", folds)
    flat = {name: table.assign(series=table["id"]) for name, table in (("index", evidence.index), ("train", evidence.train))}
    section = data(replace(evidence, fold=np.zeros(len(evidence.train), int), **flat))
    assert not [block for block in section.blocks if isinstance(block, Picture)]
    assert "series" not in tables(section)[0] and "series" not in tables(section)[1]


def test_numbers_and_classes_have_their_own_drawings(evidence):
    age = evidence.train.assign(age=np.arange(len(evidence.train)) + 0.5)
    task = Task(("age",), Metric("mean absolute error", (1,), unit="months"))
    section = data(replace(evidence, task=task, train=age))
    row = tables(section)[1].set_index("part").loc["all"]
    assert row["median"] == 36 and row["rows"] == 72
    split = evidence.train.assign(right=1 - evidence.train["left"])
    task = Task(tiny.TARGETS, Metric("classification error", (1,), groups=(ClassGroup("side", ("left", "right")),)))
    captions = [block.caption for block in data(replace(evidence, task=task, train=split)).blocks if isinstance(block, Plot)]
    assert "class of side" in captions[0]


def test_strata_and_balance_are_spread_over_folds(evidence):
    made = competition(pages__strata=lambda rows: pd.DataFrame({"sex": np.where(rows["position"] < 2, "male", "female")}),
                       data__balance=lambda rows: pd.DataFrame({"first": (rows["position"] == 0).astype(int)}))
    context = replace(evidence.context, competition=made)
    strata, balanced = (table for table in tables(data(replace(evidence, context=context)))[2:4])
    assert strata.set_index("stratum").loc["male", ["rows", "share", "fold 1"]].tolist() == [24, 1 / 3, 1 / 3]
    assert balanced["rows"].tolist() == [12]


def test_long_lists_are_cut_and_flags_counted(evidence):
    lost = pd.DataFrame({"stage": "01", "split": "train", "path": [f"{one}.dcm" for one in range(LISTED + 50)],
                         "reason": ["truncated"] * 40 + ["no-file"] * (LISTED + 10), "detail": ""})
    flagged = evidence.index.assign(flag=np.where(evidence.index["position"] == 0, "no box", ""), order_flag="")
    section = data(replace(evidence, quarantine=lost, localized=flagged))
    reasons = next(table for table in tables(section) if list(table) == ["stage", "split", "reason", "rows"])
    assert reasons["rows"].tolist() == [LISTED + 10, 40]
    counts = next(table for table in tables(section) if {"by", "test"} <= set(table))
    assert counts.iloc[0].tolist() == ["localization", "no box", 4, 12]
    assert max(map(len, tables(section))) == LISTED


def test_faulty_fields_of_headers_are_counted(evidence):
    assert not any("field" in table for table in tables(data(evidence)))
    position = evidence.index["position"]
    faulty = np.select([position == 0, position == 1], ["spacing,window_center", "spacing"], "")
    section = data(replace(evidence, index=evidence.index.assign(faulty=faulty)))
    counts = next(table for table in tables(section) if "field" in table)
    train, test = ((evidence.index["split"] == split) & (position == 0) for split in ("train", "test"))
    assert counts.set_index("field")[["train", "test"]].T.to_dict("list") == {
        "spacing": [2 * train.sum(), 2 * test.sum()], "window_center": [train.sum(), test.sum()]}


def test_the_window_shows_what_is_not_background():
    rng = np.random.default_rng(0)
    head = np.full((64, 64), -1000)
    head[8:56, 8:56] = 900
    head[12:52, 12:52] = rng.normal(30, 8, (40, 40))
    head[20:30, 20:30] += 40
    shown = gray([head.astype(np.int16)], -1024)[0]
    assert shown[0, 0] == 0 and shown[9, 9] == 255
    assert 60 < shown[40, 40] < 200 and shown[22:28, 22:28].mean() - shown[36:50, 36:50].mean() > 80
    plain = head.clip(0, 255).astype(np.uint8)
    assert gray([plain], 0)[0] is not None and np.array_equal(gray([plain], 0)[0], plain)
    assert gray([np.full((4, 4), -5, np.int16)], -5)[0].dtype == np.uint8


def chain(paths: Paths, boxes: str = "boxes") -> None:
    """Every stage as one small file; ``boxes`` is what stage 02 writes."""
    paths.input.mkdir(parents=True, exist_ok=True)
    for name in ("labels.csv", "sample.csv"):
        (paths.input / name).write_text(name)
    index, folds = paths.folds / "index.parquet", paths.folds / "folds.csv"
    found, rows = paths.cache / "found" / "fold0.parquet", paths.cache / "rows.parquet"
    make("01_make_folds", index, "index", {}, paths.input / "labels.csv", facts={"raw files": "digest"})
    make("01_make_folds", folds, "folds", {}, index)
    make("02_localize", paths.weights / "box_net" / "fold0.safetensors", "net", {"fold": 0}, index, seconds=8)
    make("02_localize", found, "found", {"fold": 0}, index, seconds=10, facts={"raw files": "digest"})
    make("02_localize", paths.cache / "boxes.parquet", boxes, {}, found)
    make("03_cache", rows, "rows", {}, paths.cache / "boxes.parquet")
    members = []
    for fold in range(2):
        weights, table = paths.weights / "tiny" / f"fold{fold}.safetensors", paths.oof / "tiny" / f"fold{fold}.parquet"
        make("04_train", weights, f"weights {fold}", {"fold": fold}, rows, folds, seconds=5, images_per_second=100.0)
        make("05_predict", table, f"tiny {fold}", {}, weights, rows, score=0.5 + fold, peak_mb=300 + fold)
        members.append(table)
    make("07_stack", paths.oof / "final" / "fold0.parquet", "final", {}, *members, rows, score={"value": 0.25})
    make("08_submit", paths.submissions / "final.csv", "sent", {}, paths.oof / "final" / "fold0.parquet",
         paths.input / "sample.csv")


def make(stage, path, text, recipe, *inputs, facts=None, seconds=1.0, **told) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    Artifact(stage, 1, (path,), recipe, inputs, facts or {}).record(seconds, **told)


def test_the_way_back_is_followed(evidence):
    paths = evidence.context.paths
    chain(paths)
    section = provenance(evidence)
    way = tables(section)[0].set_index("artifact")
    assert [name.strip("\u2003") for name in way.index] == [
        "submissions/final.csv", "oof/final", "oof/tiny", "weights/tiny", "cache/rows.parquet", "folds/folds.csv",
        "cache/boxes.parquet", "cache/found", "folds/index.parquet"]
    assert way["steps back"].tolist() == [0, 1, 2, 3, 4, 4, 5, 6, 7]
    assert way.iloc[2]["made from"] == "weights/tiny, cache/rows.parquet" and way.iloc[2]["count"] == 2
    assert "tiny/sample.csv" in way.iloc[0]["made from"] and "trouble" not in way
    assert [tone for tone, _ in words(section)] == ["good"]
    cost = tables(section)[1].set_index("artifact")
    assert cost.loc["oof/tiny", ["score", "peak MB", "seconds"]].tolist() == [1.0, 301, 2]
    assert cost.loc["cache/found", "seconds"] == 2 and cost.loc["weights/box_net", "seconds"] == 8
    assert cost.loc["oof/final", "score"] == 0.25 and "peak GPU MB" not in cost
    outside = next(table for table in tables(section) if "read by" in table)
    assert outside["input"].tolist() == ["raw files", "tiny/labels.csv", "tiny/sample.csv"]


@pytest.mark.parametrize("spoil, told", [
    (lambda paths: make("02_localize", paths.cache / "boxes.parquet", "others", {}, paths.cache / "found" / "fold0.parquet"),
     "cache/rows.parquet: tiny/boxes.parquet changed since"),
    (lambda paths: (paths.weights / "tiny" / "fold1.safetensors").unlink(), "tiny/fold1.safetensors: the file is gone"),
    (lambda paths: (paths.cache / "rows.parquet").write_text("longer now"), "cache/rows.parquet: the file was edited"),
    (lambda paths: (paths.input / "labels.csv").write_text("x"), "folds/index.parquet: tiny/labels.csv changed since"),
], ids=["made again", "gone", "edited", "labels"])
def test_what_is_out_of_date_is_named(evidence, spoil, told):
    paths = evidence.context.paths
    chain(paths)
    spoil(paths)
    bad = [line for tone, line in words(provenance(evidence)) if tone == "bad"]
    assert len(bad) == 1 and told in bad[0]


def test_rows_of_one_split_are_followed_and_compared_as_well(evidence):
    paths = evidence.context.paths
    chain(paths)
    rows, last = paths.cache / "rows.parquet", paths.oof / "final" / "fold0.parquet"

    def cached(train: str) -> None:
        make("03_cache", rows, "rows", {}, paths.cache / "boxes.parquet", splits={"train": train, "test": "b"})

    cached("a")
    weights, table = paths.weights / "tiny" / "fold0.safetensors", paths.oof / "tiny" / "fold0.parquet"
    make("04_train", weights, "net", {"fold": 0}, facts={"tiny/rows.parquet: train rows but fold 0": "learned"})
    make("05_predict", table, "said", {}, weights, facts={"tiny/rows.parquet: train rows": "a"})
    make("07_stack", last, "final", {}, table, facts={"tiny/rows.parquet: test rows": "b"})
    make("08_submit", paths.submissions / "final.csv", "sent", {}, last)
    section = provenance(evidence)
    way = tables(section)[0]["artifact"].str.strip("\u2003").tolist()
    assert way[:3] == ["submissions/final.csv", "oof/final", "oof/tiny"]
    assert {"weights/tiny", "cache/rows.parquet", "cache/boxes.parquet", "folds/index.parquet"} <= set(way)
    outside = next(table for table in tables(section) if "read by" in table)
    assert outside["input"].tolist() == ["raw files", "tiny/labels.csv"]
    assert "good" in [tone for tone, _ in words(section)]
    cached("others")
    bad = [line for tone, line in words(provenance(evidence)) if tone == "bad"]
    assert len(bad) == 1 and "oof/tiny/fold0.parquet: tiny/rows.parquet: train rows changed since" in bad[0]
    assert "test rows" not in bad[0]


def test_trouble_beside_the_submission_only_warns(evidence):
    chain(evidence.context.paths)
    (evidence.context.paths.weights / "box_net" / "fold0.safetensors").unlink()
    assert [tone for tone, _ in words(provenance(evidence))] == ["good", "warn"]


def test_versions_that_differ_and_broken_manifests(evidence):
    paths = evidence.context.paths
    chain(paths)
    manifest = manifest_of(paths.folds / "folds.csv")
    known = json.loads(manifest.read_text())
    write_json(manifest, known | {"packages": known["packages"] | {"torch": "0.1"}})
    manifest_of(paths.submissions / "final.csv").write_text("{")
    section = provenance(evidence)
    assert any(tone == "warn" and "different versions of torch;" in line for tone, line in words(section))
    assert tables(section)[0]["artifact"][0] == "oof/final"


def test_nothing_made_leaves_the_recipes(evidence):
    assert not remember(replace(evidence.context.paths, name="other")).made
    elsewhere = replace(evidence.context, paths=replace(evidence.context.paths, name="other"))
    section = provenance(replace(evidence, context=elsewhere))
    assert [block.caption for block in section.blocks if isinstance(block, Table)] == ["final (submitted)", "tiny"]


def test_recipes_read_like_code():
    rows = dict(flattened(as_dict(tiny.EXPERIMENT)))
    assert rows["name"] == "tiny" and rows["optim.lr"] == "0.003" and rows["backbone.name"] == "timm/test_resnet"
    assert rows["augment"] == "VerticalFlip(p=0.5), Affine(rotate=(-10, 10), p=0.5)"
    assert in_words([[1, 2], 0.25]) == "(1, 2), 0.25" and "note" not in rows


@pytest.mark.parametrize("name, label", [
    ("oof/lite0/fold0.parquet", "oof/lite0"), ("weights/lite0/fold2_seed1.safetensors", "weights/lite0"),
    ("oof/lite0/fold1_test.parquet", "oof/lite0/fold*_test.parquet"), ("cache/shard-0001.npy", "cache/shard-*.npy"),
])
def test_folds_and_shards_are_one_of_a_kind_and_a_model_keeps_the_digits_of_its_name(tmp_path, name, label):
    assert Made(name, {}, tmp_path).label == label
