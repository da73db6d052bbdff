"""The audit: planted copies, moved patients and tables, a stacker that peeks are found; honest work passes."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pandas as pd
import pytest
from members import write_fold

from competitions import load
from radstack.commands import canary
from radstack.commands.leak_audit import audit_once, leak_audit
from radstack.core.artifact import Artifact, manifest_of
from radstack.core.errors import LeakError, UserError
from radstack.core.files import write_json, write_table
from radstack.core.folds import fold_hash, make_folds
from radstack.core.recipe import change
from radstack.images.duplicates import EXACT, MIRRORED, SHIFTS, correlation, duplicates, hash_pictures, similar
from radstack.images.shards import Shards, shard_path, write_shard
from radstack.recipes.competition import FoldRecipe, Models
from radstack.recipes.experiment import Experiment
from radstack.recipes.stacker import Stacker
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.running.tables import read_rows
from radstack.scoring.task import CLASSES, NUMBERS, PROBABILITIES, Metric
from radstack.stack.method import Fitted
from radstack.stack.predictions import fold_files, prediction_table
from radstack.stack.registry import METHODS

SIDE, PATIENTS, SLICES, FOLDS = 64, 60, 3, 3
COPIES = {"same": lambda one: one, "down and right": lambda one: moved(one, 2, 2), "up": lambda one: moved(one, -1, 0),
          "down and left": lambda one: moved(one, 2, -2), "mirrored": lambda one: one[:, ::-1],
          "brighter": lambda one: np.clip(one * 1.03, 0, 255).astype(np.uint8),
          "JPEG": lambda one: cv2.imdecode(cv2.imencode(".jpg", one, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 0)}


def moved(picture: np.ndarray, down: int, right: int) -> np.ndarray:
    return cv2.warpAffine(picture, np.float32([[1, 0, right], [0, 1, down]]), picture.shape[::-1])


def drawn(rng: np.random.Generator, number: int) -> np.ndarray:
    """Pictures that share a bright disk and differ in soft spots, uint8 [number, SIDE, SIDE]."""
    disk = cv2.circle(np.zeros((SIDE, SIDE), np.float32), (SIDE // 2, SIDE // 2), 24, 90, -1)
    spots = np.stack([cv2.GaussianBlur(rng.normal(0, 400, (SIDE, SIDE)), (0, 0), 3) for _ in range(number)])
    return np.clip(disk + np.where(disk > 0, spots + 30, 0) + rng.normal(5, 2, spots.shape), 0, 255).astype(np.uint8)


def table(number: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of patients of ``SLICES`` pictures, and folds 0 to 2 or -1 by patient."""
    place = np.arange(number)
    group = place // SLICES
    rows = pd.DataFrame({"id": [f"r{one}" for one in place], "group": [f"p{one}" for one in group], "shard": place // 100,
                         "slot": place % 100, "crc": place + 1})
    return rows, group % (FOLDS + 1) - 1


def store(folder: Path, pictures: np.ndarray) -> None:
    for shard in range(-(-len(pictures) // 100)):
        piece = pictures[shard * 100:(shard + 1) * 100]
        write_shard(shard_path(folder, shard), [lambda one=one: one for one in piece], (SIDE, SIDE), "uint8")


def test_every_planted_copy_is_found_and_nothing_else(tmp_path):
    pictures = drawn(np.random.default_rng(0), PATIENTS * SLICES)
    rows, part = table(len(pictures))
    planted = {}
    for number, (name, copy) in enumerate(COPIES.items()):
        source, target = number * SLICES, (number + 21) * SLICES  # 21 patients on is the next part
        pictures[target] = copy(pictures[source])
        planted[rows["id"][source], rows["id"][target]] = name
    pictures[100] = pictures[101]                          # one patient
    pictures[3 * SLICES + 1] = pictures[7 * SLICES + 1]    # two patients of one part
    pictures[[5, 50, 110]] = 3                             # empty in three parts
    store(tmp_path, pictures)
    found, counts = duplicates(tmp_path, rows, part)
    ends = [frozenset(pair) for pair in zip(found["id"], found["other_id"])]
    assert sorted(map(sorted, ends)) == sorted(map(sorted, planted))
    kinds = {planted.get((a, b)) or planted[b, a]: (kind, mirrored) for a, b, kind, mirrored
             in found[["id", "other_id", "kind", "mirrored"]].itertuples(index=False)}
    assert kinds["same"] == (EXACT[0], False) and kinds["mirrored"] == ("near", True) and kinds["JPEG"] == ("near", False)
    assert counts["empty"] == 3 and (found["fold"] != found["other_fold"]).all() and found["correlation"].min() >= 0.99


def test_a_checksum_of_raw_pixels_counts_where_the_pictures_agree(tmp_path):
    pictures = drawn(np.random.default_rng(1), PATIENTS * SLICES)
    rows, part = table(len(pictures))
    pictures[3] = np.clip(pictures[0] * 0.5 + 20, 0, 255)
    pictures[6] = np.random.default_rng(2).integers(0, 255, (SIDE, SIDE))
    rows.loc[[3, 6, 9], "crc"] = rows["crc"][0]  # the second agrees by chance, the third is cropped elsewhere
    store(tmp_path, pictures)
    found, _ = duplicates(tmp_path, rows, part)
    kinds = {frozenset(pair): kind for *pair, kind in found[["id", "other_id", "kind"]].itertuples(index=False)}
    assert kinds == {frozenset(("r0", "r3")): EXACT[1], frozenset(("r0", "r9")): "same checksum",
                     frozenset(("r3", "r9")): "same checksum"}


def test_pairs_are_those_that_all_comparisons_find():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**63, (2, 400, 4), dtype=np.uint64)
    words[:, :, 1:] = words[:, :1, 1:]                     # bits that agree: crowded bands
    words[0, 200:] = words[0, :200]
    for row in range(200, 400):
        for bit in rng.choice(256, rng.integers(0, 14), replace=False):
            words[0, row, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    group, part = rng.integers(0, 300, 400), rng.integers(-1, 3, 400)
    found = similar(words, group, part, 10)
    bits = np.bitwise_count(words[:, :, None] ^ words[0][None, None]).sum(-1).min(0)
    near = np.argwhere((np.minimum(bits, bits.T) <= 10) & (group[:, None] != group) & (part[:, None] != part))
    assert {tuple(sorted(pair)) for pair in near} == {tuple(sorted(pair)) for pair in found[["first", "second"]].to_numpy()}
    assert len(found) > 50 and found["bits"].is_monotonic_increasing


def test_a_probe_is_the_hash_of_the_moved_picture(tmp_path):
    one = drawn(np.random.default_rng(2), 1)[0]
    pictures = np.stack([one, *(moved(one, -down, -right) for down, right in SHIFTS), one[:, ::-1]])
    store(tmp_path, np.concatenate([pictures, drawn(np.random.default_rng(3), 60)]))
    words = hash_pictures(tmp_path, table(len(pictures) + 60)[0]).words
    apart = [int(np.bitwise_count(words[probe, 0] ^ words[0, probe + 1]).sum()) for probe in range(MIRRORED + 1)]
    assert max(apart) <= 2 and int(np.bitwise_count(words[0, 0] ^ words[0, -1]).sum()) > 60
    assert min(correlation(one, pictures[probe + 1], probe) for probe in range(MIRRORED + 1)) > 0.999


def numbers(predicts: str) -> tuple[tuple[str, ...], Metric, str]:
    if predicts == PROBABILITIES:
        return ("left", "right"), Metric("weighted log loss", (1, 2)), "calibrate"
    return ("age",), Metric("mean absolute error", (1,)), "linear"


def make(folder: Path, predicts: str = PROBABILITIES) -> Context:
    """Everything that stages 01 to 06 would have left: one network, two folds' worth of skill, a picture a row."""
    (targets, metric, method), rng = numbers(predicts), np.random.default_rng(0)
    ich = load("ich")
    models = Models((replace(ich.models.experiments[0], name="net"),),
                    (Stacker("fitted", method, ("net",)), Stacker("final", "mean", ("fitted", "net"))), final="final")
    competition = replace(ich, name="little", targets=targets, metric=metric, folds=FoldRecipe(FOLDS),
                          data=replace(ich.data, kaggle=""), models=models)
    context = make_context(competition, Options(data_dir=str(folder), out_dir=str(folder), workers=1))
    rows, _ = table(PATIENTS * SLICES)
    test = rows["group"].str[1:].astype(int) % 4 == 3
    labels = rng.uniform(5, 20, (len(rows), 1)) if metric.kind.predicts == NUMBERS else rng.random((len(rows), 2)) < 0.4
    rows = rows.assign(split=np.where(test, "test", "train"), series=rows["group"], position=np.arange(len(rows)) % SLICES)
    rows[list(targets)] = np.where(test.to_numpy()[:, None], np.nan, labels.astype(float))
    train, paths = rows[~test], context.paths
    folds = make_folds(train["group"], train[list(targets)] > 0.5, FOLDS, 0)
    write_table(paths.folds / "index.parquet", rows.drop(columns=["shard", "slot", "crc"]))
    write_table(paths.folds / "folds.csv", folds)
    write_table(paths.cache / "rows.parquet", rows)
    store(paths.cache, drawn(rng, len(rows)))
    fold = rows["group"].map(folds.set_index("group")["fold"]).where(~test, -1).to_numpy(int)
    guess = labels + rng.normal(0, 3, labels.shape) if metric.kind.predicts == NUMBERS else 0.2 + 0.6 * labels
    for one in range(FOLDS):
        tell(paths.oof / "net", one, rows["id"].to_numpy(), fold, guess, targets, fold_hash(folds))
    return context


def tell(folder: Path, number: int, ids: np.ndarray, fold: np.ndarray, guess: np.ndarray, targets: tuple[str, ...],
         folds_hash: str) -> None:
    tables = [prediction_table(ids[fold == one], one, guess[fold == one], targets) for one in (number, -1)]

    def build() -> dict[str, str]:
        write_fold(folder, number, *tables)
        return {"fold_hash": folds_hash}

    Artifact("05_predict", 1, fold_files(folder, number), {}).make(build)


def audit(context: Context) -> pd.DataFrame:
    """The findings, leak or not."""
    try:
        leak_audit(context, 10)
    except LeakError as error:
        assert "leak_audit.csv" in str(error)
    return pd.read_csv(context.paths.reports / "leak_audit.csv").set_index("check")


@pytest.mark.parametrize("predicts", [PROBABILITIES, NUMBERS])
def test_honest_work_passes(tmp_path, capsys, predicts):
    context = make(tmp_path, predicts)
    leak_audit(context, 10)
    said = capsys.readouterr().out
    assert "no leak in" in said and "LEAK" not in said and "warn" not in said
    assert "shuffled labels: fitted" in said and "final" not in said  # it learns nothing
    assert pd.read_csv(context.paths.reports / "near_duplicates.csv").empty


def test_patients_on_two_sides_are_leaks(tmp_path):
    context = make(tmp_path)
    paths = context.paths
    index, folds = pd.read_parquet(paths.folds / "index.parquet"), pd.read_csv(paths.folds / "folds.csv")
    write_table(paths.folds / "folds.csv", pd.concat([folds, folds.iloc[:1].assign(fold=(folds["fold"][0] + 1) % FOLDS)]))
    index.loc[index["group"] == "p3", "group"] = "p0"  # p3 is test
    write_table(paths.folds / "index.parquet", index)
    found = audit(context)
    assert found.loc["patients in two folds", "detail"].endswith(folds["group"][0])
    assert set(found.index[found["status"] == "LEAK"]) >= {"patients in two folds", "patients in train and test",
                                                          "cached rows", "predictions"}
    kaggle = replace(context, competition=change(context.competition, data__kaggle="theirs"))
    assert audit(kaggle).loc["patients in train and test", "status"] == "warn"


def test_a_table_of_other_folds_is_a_leak(tmp_path):
    context = make(tmp_path)
    folder = context.paths.oof / "net"
    first, second = (pd.read_parquet(fold_files(folder, one)[0]) for one in (0, 1))
    first.loc[0, ["id"]] = second.loc[0, ["id"]]
    Artifact("05_predict", 1, fold_files(folder, 0), {}).make(
        lambda: write_fold(folder, 0, first, pd.read_parquet(fold_files(folder, 0)[1])) or
        {"fold_hash": fold_hash(pd.read_csv(context.paths.folds / "folds.csv"))})
    found = audit(context).loc["predictions"]
    assert found["status"] == "LEAK" and second["id"][0] in found["detail"] and "twice" in found["detail"]


@pytest.mark.parametrize("spoil, told", [
    (lambda file: {}, ""), (lambda file: {"recipe": {"fold": 0}}, "made for fold 0"),
    (lambda file: {"inputs": {"little/folds.csv": "other"}}, "another fold table")])
def test_weights_and_findings_of_networks_say_their_folds(tmp_path, spoil, told):
    context = make(tmp_path)
    paths = context.paths
    part = pd.read_parquet(paths.cache / "rows.parquet").merge(pd.read_csv(paths.folds / "folds.csv"), how="left")
    seen = part[part["fold"] == 1]
    test = part.loc[part["split"] == "test", ["id"]].reset_index(drop=True)
    write_table(paths.cache / "found" / "fold1_test.parquet", test)
    for file in (paths.weights / "net" / "fold1.safetensors", paths.cache / "found" / "fold1.parquet"):
        artifact = Artifact("04_train", 1, (file,), {"fold": 1}, (paths.folds / "folds.csv",))
        artifact.make(lambda file=file: write_table(file, seen[["id"]].reset_index(drop=True)))
        manifest = json.loads(manifest_of(file).read_text())
        write_json(manifest_of(file), manifest | spoil(file))
    found = audit(context).loc[["weights", "localization"]]
    assert (found["status"] == ("LEAK" if told else "ok")).all() and found["detail"].str.contains(told).all()
    strange = part[part["fold"] == 2]
    artifact = Artifact("02_localize", 1, (paths.cache / "found" / "fold1.parquet",), {"fold": 1},
                        (paths.folds / "folds.csv",))
    artifact.make(lambda: write_table(artifact.files[0], strange[["id"]]))
    assert f"{strange['id'].iloc[0]} does not belong here" in audit(context).loc["localization", "detail"]


def test_weights_of_a_recipe_that_is_gone_only_warn(tmp_path):
    context = make(tmp_path)
    for name in ("net", "gone"):
        file = context.paths.weights / name / "fold1.safetensors"
        artifact = Artifact("04_train", 1, (file,), {"fold": 1}, (context.paths.folds / "folds.csv",))
        artifact.make(lambda file=file: write_table(file, pd.DataFrame({"id": ["a"]})))
    gone = manifest_of(context.paths.weights / "gone" / "fold1.safetensors")
    write_json(gone, json.loads(gone.read_text()) | {"inputs": {"little/folds.csv": "other"}})
    found = audit(context)
    assert found.loc["weights", "status"] == "ok" and found.loc["weights", "detail"].startswith("1 files")
    assert found.loc["weights that no stage reads", "status"] == "warn"


def test_weights_on_call_count_where_they_have_answered_or_others_began_with_them(tmp_path):
    context = make(tmp_path)
    net = context.competition.recipe("net")
    context = replace(context, competition=change(context.competition, models__on_call=(
        change(net, name="first"), change(net, name="then", backbone__start="first"), change(net, name="idle"))))
    for name in ("first", "then", "idle"):
        file = context.paths.weights / name / "fold1.safetensors"
        artifact = Artifact("04_train", 1, (file,), {"fold": 1}, (context.paths.folds / "folds.csv",))
        artifact.make(lambda file=file: write_table(file, pd.DataFrame({"id": ["a"]})))
        write_json(manifest_of(file), json.loads(manifest_of(file).read_text()) | {"inputs": {"little/folds.csv": "other"}})
    assert audit(context).loc["weights", "status"] == "ok"
    shutil.copytree(context.paths.oof / "net", context.paths.oof / "then")
    found = audit(context)
    assert found.loc["weights", "status"] == "LEAK" and found.loc["weights that no stage reads", "detail"].startswith("idle")
    assert all(name in found.loc["weights", "detail"] for name in ("first/fold1", "then/fold1"))


def test_an_audit_by_hand_leaves_nothing_that_stage_09_takes_for_damaged(tmp_path, capsys):
    context = make(tmp_path)
    audit_once(context)
    leak_audit(context, 4)
    audit_once(context)
    capsys.readouterr()
    audit_once(context)
    assert "kept" in capsys.readouterr().out


def test_an_exact_copy_is_a_leak_and_a_near_one_a_warning(tmp_path):
    context = make(tmp_path)
    pictures = np.load(shard_path(context.paths.cache, 0)).copy()
    rows = pd.read_parquet(context.paths.cache / "rows.parquet")
    test, train = (rows.index[(rows["split"] == one) & (rows["shard"] == 0)] for one in ("test", "train"))
    pictures[test[0]] = pictures[train[0]]
    pictures[test[1]] = moved(pictures[train[1]], 2, 1)
    write_shard(shard_path(context.paths.cache, 0), [lambda one=one: one for one in pictures], (SIDE, SIDE), "uint8")
    found = audit(context)
    copy, near = found.loc["copies across folds"], found.loc["near duplicates across folds"]
    assert copy["status"] == "LEAK" and rows["id"][test[0]] in copy["detail"]
    assert near["status"] == "warn" and rows["id"][test[1]] in near["detail"] and rows["id"][test[0]] not in near["detail"]


@dataclass(frozen=True)
class Peek:
    """A stacker that looks at the labels of the rows it predicts."""

    learns: ClassVar[bool] = True
    handles: ClassVar[tuple[str, ...]] = (PROBABILITIES, NUMBERS, CLASSES)

    def fit(self, rows):
        return Fitted(self, None, {})

    def predict(self, rows, state):
        return np.where(np.isnan(rows.truth), 0.4, 0.3 + 0.3 * rows.truth)


def test_a_stacker_that_peeks_is_heard(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "peek", Peek)
    context = make(tmp_path)
    peeking = change(context.competition, models__stackers=(Stacker("final", "peek", ("net",)),))
    found = audit(replace(context, competition=peeking)).loc["shuffled labels"]
    assert found["status"] == "LEAK" and found["detail"].startswith("final")


@pytest.mark.parametrize("skill", [0.0, 0.3])
def test_a_network_is_trained_elsewhere_and_heard(tmp_path, monkeypatch, skill):
    context, places = make(tmp_path), []

    def predict(own: Context, experiment: Experiment, number: int, split: str) -> None:
        rows, fold = read_rows(own)
        places.append(own.paths.out)
        guess = 0.4 + skill * (np.nan_to_num(rows[["left", "right"]].to_numpy()) - 0.4)
        tell(own.paths.oof / experiment.name, number, rows["id"].to_numpy(), fold, guess, ("left", "right"), "")
        assert Shards(own.paths.cache)(0, 3).shape == (SIDE, SIDE)

    monkeypatch.setattr("radstack.stages.train.train_fold", lambda *_: None)
    monkeypatch.setattr("radstack.stages.predict.predict_fold", predict)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert canary.trained(context, "net").leaks == (skill > 0)
    assert len(places) == (2 if skill else 1) and not any(place.exists() for place in places)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="known: .*net"):
        canary.trained(context, "nte")


def test_labels_come_from_one_other_patient_in_random_order():
    number = np.arange(40)
    rows = pd.DataFrame({"split": np.where(number < 36, "train", "test"), "y": np.where(number < 36, number // 6, np.nan),
                         "group": [f"p{one}" for one in number // 6], "series": [f"s{one}" for one in number // 2],
                         "place": number.astype(float)})
    rows.loc[:3, "group"] = "p9"  # patients of four, two and six rows
    dealt = canary.shuffled(rows, ["y", "place"], 0)
    assert dealt.loc[36:, ["y", "place"]].equals(rows.loc[36:, ["y", "place"]])
    giver = dealt.loc[:35].assign(own=rows["group"][:36], giver=rows["group"].to_numpy()[dealt["place"][:36].astype(int)])
    assert (giver.groupby("own")["giver"].nunique() == 1).all() and (giver["own"] != giver["giver"]).all()
    assert (giver["y"] == rows["y"].to_numpy()[giver["place"].astype(int)]).all()  # labels of a row stay together
    with pytest.raises(UserError, match="two patients"):
        canary.shuffled(rows[rows["group"] == "p9"], ["y"], 0)


def test_one_hit_by_chance_is_tried_again():
    trials = [canary.Trial("a", 1, 2, canary.Interval(1, low, 2)) for low in (0.5, -0.1)]
    assert not canary.repeated(lambda seed: trials[seed]).leaks
    assert canary.repeated(lambda seed: trials[0]).leaks and canary.repeated(lambda seed: trials[1]) is trials[1]
