"""More data: pictures of other sources train in every fold, are never scored, and hold no copy of a picture here."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scripts import run_script

from competitions._template.demo import DEMO, draw, picture
from radstack.commands.add_source import Wish, add_source
from radstack.commands.leak_audit import LEAK, OK, WARN, open_scene
from radstack.commands.leak_audit import sources as audited
from radstack.core.artifact import Artifact, manifest_of
from radstack.core.errors import LeakError, UnfitTable, UserError
from radstack.core.files import read_json, read_table, write_table
from radstack.core.folds import ALL, EVERY
from radstack.core.recipe import as_dict, change
from radstack.images.own.source import Source
from radstack.images.radiograph import index_new
from radstack.images.shards import APART, Shards, shard_path, write_shard
from radstack.report.added import added_blocks
from radstack.running.cli import make_context, sibling
from radstack.running.context import Options, add_variant
from radstack.running.tables import read_rows
from radstack.stages import sources
from radstack.stages.cache import cache
from radstack.stages.folds import deal_folds, make_index
from radstack.stages.localize import localize
from radstack.stages.more_rows import learned_rows, prepare
from radstack.stages.predict import predict_fold
from radstack.stages.sources import KEPT_OUT, ROWS, checked_artifact, facts_of, known_sources
from radstack.stages.train import train_fold, weights_artifact
from radstack.training.loader import training_rows


def png(folder, name, pixels):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


@pytest.fixture
def context(tmp_path):
    """Twelve patients of two pictures, three of them test, through stage 03."""
    models = replace(DEMO.models, experiments=(change(DEMO.recipe("resnet"), train__epochs=1),), stackers=(), final="resnet")
    made = make_context(replace(DEMO, models=models), Options(data_dir=str(tmp_path), out_dir=str(tmp_path), workers=1,
                                                              device="cpu"))
    draw(made.paths.input, series=12, workers=1)
    for stage in (make_index, deal_folds, localize, cache):
        stage(made)
    return made


@pytest.fixture
def clinic(context, tmp_path):
    """Eight new pictures of four patients and their labels; a function that plants a copy of a picture here among them."""
    rng, folder, lines = np.random.default_rng(5), tmp_path / "clinic", []
    for number in range(8):
        diameter = rng.uniform(6, 20)
        png(folder, f"new{number}", picture(rng, diameter))
        lines.append({"id": f"new{number}", "patient": f"clinic{number // 2}", "diameter": diameter})

    def plant(name, source, patient, changed=lambda one: one):
        png(folder, name, changed(cv2.imread(str(context.paths.input / "pictures" / f"{source}.png"), 0)))
        lines.append({"id": name, "patient": patient, "diameter": 9.0})

    def add(name="clinic", **wishes):
        pd.DataFrame(lines).to_csv(tmp_path / "labels.csv", index=False)
        add_source(context, name, Wish(folder, tmp_path / "labels.csv", **wishes))
        return read_table(context.paths.sources / name / ROWS), read_table(context.paths.sources / name / KEPT_OUT)

    add.plant, add.folder, add.lines = plant, folder, lines
    return add


def with_source(context, **edits):
    return change(context.competition.recipe("resnet"), name="more", sources=("clinic",), **edits)


def test_planted_copies_of_scored_and_of_test_pictures_are_kept_out_with_their_patients(context, clinic):
    """The planted leaks: a scored picture under another name and label, a test picture a little brighter."""
    clinic.plant("a_scored_one", "p0002a", "clinic0")
    clinic.plant("a_test_one", "p0011b", "someone", lambda one: np.clip(one * 1.02, 0, 255).astype(np.uint8))
    rows, out = clinic()
    assert sorted(rows["id"]) == [f"clinic/new{number}" for number in range(2, 8)]  # the copy's patient has two more
    told = out.set_index("group")
    assert told.loc["clinic/clinic0", "reason"] == "near duplicate of a scored row"
    assert "p0002a" in told.loc["clinic/clinic0", "detail"] and "p0011b" in told.loc["clinic/someone", "detail"]
    assert told.loc["clinic/someone", "reason"] == "near duplicate of a row of test"
    facts = facts_of(context, "clinic")
    assert (facts["pictures"], facts["labeled"], facts["train"]) == (10, 10, 6)


def test_pictures_of_test_with_the_answers_of_a_submission_are_no_source(context, clinic, tmp_path):
    """The planted leak: test rows with labels that all folds' models gave, as if they were another hospital's."""
    folder, index = tmp_path / "theirs", read_table(context.paths.folds / "index.parquet")
    test = index[index["split"] == "test"]
    for one in test.itertuples():
        png(folder, f"x{one.id}", cv2.imread(str(context.paths.input / one.path), 0))
    test[["id"]].assign(id="x" + test["id"], diameter=11.0).to_csv(tmp_path / "said.csv", index=False)
    with pytest.raises(LeakError, match="every picture of theirs is one that is here already.*--pseudo MODEL"):
        add_source(context, "theirs", Wish(folder, tmp_path / "said.csv"))
    with pytest.raises(LeakError, match="every picture of theirs"):  # nor by a recipe that names it all the same
        prepare(context, [change(with_source(context), sources=("theirs",))])


def test_a_table_of_columns_must_fit_and_the_labels_in_its_place_need_not(context, clinic, tmp_path):
    given = []

    def strict(folder, workers, parts, table):
        given.append(len(table))
        if len(table):
            raise UnfitTable("the table has no column side")
        return index_new(folder, workers, parts, table)

    pd.DataFrame({"id": ["new0"], "sex": ["F"]}).to_csv(tmp_path / "sexes.csv", index=False)
    pd.DataFrame(clinic.lines).to_csv(tmp_path / "labels.csv", index=False)
    context = change(context, competition__data__index_new=strict)
    add_source(context, "clinic", Wish(clinic.folder, tmp_path / "labels.csv"))
    assert len(read_table(context.paths.sources / "clinic" / ROWS)) == 8 and given == [8, 0]
    with pytest.raises(UnfitTable, match="no column side"):
        add_source(context, "typed", Wish(clinic.folder, tmp_path / "labels.csv", columns=tmp_path / "sexes.csv"))


def test_networks_that_read_columns_get_no_source_without_them(context, clinic, tmp_path):
    own = Source("number", {"diameter": ()}, columns={"age": (60.0, 9.0)})
    reading = change(context, competition__data__recipe=own, competition__models__experiments__0__head__columns=("age",))
    pd.DataFrame(clinic.lines).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(UserError, match="resnet reads age .*no table of clinic has it; add it again with --columns TABLE"):
        add_source(reading, "clinic", Wish(clinic.folder, tmp_path / "labels.csv"))
    pd.DataFrame([{**one, "age": 61} for one in clinic.lines]).to_csv(tmp_path / "labels.csv", index=False)
    add_source(reading, "clinic", Wish(clinic.folder, tmp_path / "labels.csv"))


def test_pixels_of_a_source_are_made_again_as_those_here_are(context, clinic, capsys):
    def recipe_of(cached):
        return read_json(manifest_of(cached / "rows.parquet"))["recipe"]

    clinic()
    newer, more = change(context, competition__cache__per_shard=3), with_source(context)
    there = context.paths.sources / "clinic" / "cache" / context.paths.name
    with pytest.raises(UserError, match="are found or cached by other recipes; type: .*03_cache.py _template --demo"):
        prepare(newer, [more])
    cache(newer)
    prepare(newer, [more])
    assert recipe_of(there) == recipe_of(context.paths.cache) and recipe_of(there)["cache"]["per_shard"] == 3
    before = {path: path.stat().st_mtime_ns for path in there.glob("*.npy")}
    prepare(replace(newer, options=replace(newer.options, force=True)), [more])
    assert before and {path: path.stat().st_mtime_ns for path in there.glob("*.npy")} == before
    clinic.folder.rename(clinic.folder.with_name("away"))
    clinic.folder.mkdir()  # as a disk that is not mounted leaves it
    capsys.readouterr()
    prepare(newer, [more])
    assert "clinic is not there: pixels of clinic are as they were made" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in there.glob("*.npy")} == before
    newest = change(newer, competition__cache__per_shard=4)
    cache(newest)
    with pytest.raises(UserError, match="of another recipe than those here, and .*clinic is not there; bring them back"):
        prepare(newest, [more])


def moved(table):
    """Boxes by another rule."""
    return table.assign(top=table["top"] + 30)


def test_pictures_that_are_found_by_another_rule_than_those_of_a_source_do_not_train(context, clinic):
    clinic()
    newer, more = change(context, competition__localizer__write_boxes=moved), with_source(context)
    with pytest.raises(UserError, match="found or cached by other recipes; type: .*02_localize.py .*, then .*03_cache.py"):
        prepare(newer, [more])
    for stage in (localize, cache):
        stage(newer)
    prepare(newer, [more])
    here, there = (read_table(paths / "rows.parquet") for paths in (
        newer.paths.cache, newer.paths.sources / "clinic" / "cache" / newer.paths.name))
    assert here["top"].min() > 10 and there["top"].min() > 10


def test_a_dry_run_says_that_pixels_of_a_source_are_not_made(context, clinic, capsys):
    clinic()
    for file in (context.paths.sources / "clinic" / "cache" / context.paths.name).glob("rows.parquet*"):
        file.unlink()
    prepare(replace(context, options=replace(context.options, dry_run=True)), [with_source(context)])
    assert "would localize and cache the pictures of clinic" in capsys.readouterr().out


def test_a_source_of_which_no_picture_can_be_read_is_an_error(context, clinic):
    clinic()
    newer = change(context, competition__localizer__write_boxes=moved)
    for stage in (localize, cache):
        stage(newer)
    for file in clinic.folder.glob("*.png"):
        file.write_bytes(b"")
    add_again = "no picture of clinic in .* can be read any more; .*add_source.py"
    with pytest.raises(UserError, match=add_again):
        prepare(newer, [with_source(context)])


def test_a_source_of_which_no_picture_is_kept_is_an_error_until_the_recipe_keeps_some(context, clinic):
    clinic()
    none, more = change(context, competition__cache__keep="path.str.startswith('pictures')"), with_source(context)
    cache(none)
    with pytest.raises(UserError, match="the recipe of the cache keeps no picture of clinic"):
        prepare(none, [more])
    cache(context)
    prepare(context, [more])


def test_what_an_absent_network_found_stays_for_the_pictures_in_which_it_found_it(context, clinic, monkeypatch, capsys):
    clinic()
    monkeypatch.setattr(sources, "_networks", lambda context: [Path("gone.safetensors")])
    monkeypatch.setattr(sources, "rows_file", lambda one: one.paths.cache / "boxes.parquet")  # as rules have no other table
    prepare(context, [with_source(context)])
    assert "gone.safetensors is not there: what was found in the pictures of clinic stays" in capsys.readouterr().out
    png(clinic.folder, "new9", picture(np.random.default_rng(9), 12))
    with pytest.raises(UserError, match="gone.safetensors is not there, and nothing else .*02_localize.*03_cache"):
        clinic()


def test_pictures_that_are_away_and_never_had_pixels_are_an_error(context, clinic):
    clinic()
    for file in (context.paths.sources / "clinic" / "cache" / context.paths.name).glob("rows.parquet*"):
        file.unlink()
    clinic.folder.rename(clinic.folder.with_name("away"))
    with pytest.raises(UserError, match="is not there, and pixels of clinic were never made; bring them back"):
        prepare(context, [with_source(context)])


def test_a_dry_run_says_that_older_networks_would_end_it(context, clinic, monkeypatch, capsys):
    clinic()
    monkeypatch.setattr(sources, "_older_networks", lambda context: "the networks are older")
    prepare(replace(context, options=replace(context.options, dry_run=True)), [with_source(context)])
    assert "would end: the networks are older" in capsys.readouterr().out
    with pytest.raises(UserError, match="the networks are older"):
        prepare(context, [with_source(context)])


def test_rows_of_a_source_train_in_every_fold_and_are_scored_in_none(context, clinic):
    clinic.lines.pop()  # the last picture has no label
    rows, _ = clinic()
    recipe, (own, fold) = with_source(context), read_rows(context, "train")
    for number in (0, 1, 2, ALL):
        whole, folds, pictures = learned_rows(context, recipe, number)
        assert whole["id"].tolist()[:len(own)] == own["id"].tolist() and (folds[:len(own)] == fold).all()
        taught = {whole["id"][row] for row in training_rows(whole, folds, number, "")}
        assert taught == {*own["id"][fold != number], *(f"clinic/new{one}" for one in range(7))}
        assert folds[len(own):].tolist() == [EVERY] * 7 + [-1]
    assert (whole["diameter"][len(own):-1] > 6).all() and whole["shard"].iloc[-1] >= APART
    mine = Shards(context.paths.sources / "clinic" / "cache" / context.paths.name)
    read = recipe.view.reader(pictures, whole)
    last = rows.iloc[-1]
    assert (read(len(whole) - 1)[..., 0] == mine(last["shard"], last["slot"])).all()
    assert (read(3) == recipe.view.reader(Shards(context.paths.cache), own)(3)).all()


def test_a_network_trains_with_it_and_answers_for_its_own_rows_alone(context, clinic, capsys):
    clinic()
    base = context.competition.recipe("resnet")
    assert "sources" not in as_dict(base) and "pseudo" not in as_dict(base)  # keys of what adds nothing stay
    recipe = add_variant(context, "resnet", "more", {"sources": ["clinic"]})
    prepare(context, [recipe])
    before = weights_artifact(context, recipe, 0)
    train_fold(context, recipe, 0)
    predict_fold(context, recipe, 0, "train")
    own, fold = read_rows(context, "train")
    assert pd.read_parquet(context.paths.oof / "more" / "fold0.parquet")["id"].tolist() == own["id"][fold == 0].tolist()
    assert not before.why() and f"clinic/{ROWS}" in before.input_hashes
    assert f"clinic/{ROWS}" not in weights_artifact(context, base, 0).input_hashes
    with pytest.raises(UserError, match="no source clinics; known: clinic; add it with: python src/add_source.py _template"):
        prepare(context, [change(recipe, sources=("clinics",))])
    lost = change(recipe, name="lost", sources=("clinics",))
    add_variant(context, "resnet", "lost", {"sources": ["clinics"]})  # its source was deleted since
    prepare(change(context, options__all_stages=True), [lost])
    assert "passed over the variant lost (there is no source clinics" in capsys.readouterr().out
    evidence = type("Evidence", (), {"recipes": {"more": recipe}, "context": context})()
    heading, table = added_blocks(evidence)
    assert heading.words == "Rows beside the training rows" and table.frame["networks"].tolist() == ["more"]


def test_a_source_is_compared_again_where_the_rows_here_change(context, clinic, capsys):
    """The planted leak: a picture of the source comes into the test set after the source was added."""
    clinic()
    recipe = with_source(context)
    prepare(context, [recipe])
    assert "kept clinic/rows.parquet" in capsys.readouterr().out
    rows = read_table(context.paths.cache / "rows.parquet")
    theirs = read_table(context.paths.sources / "clinic" / ROWS).iloc[0]
    pixels = Shards(context.paths.sources / "clinic" / "cache" / context.paths.name)(theirs["shard"], theirs["slot"]).copy()
    place = rows[rows["split"] == "test"].iloc[0]
    shard = shard_path(context.paths.cache, place["shard"])
    pictures = np.load(shard).copy()
    pictures[place["slot"]] = pixels
    write_shard(shard, [lambda one=one: one for one in pictures], pictures.shape[1:], "uint8")
    write_table(context.paths.cache / "rows.parquet", rows.assign(crc=rows["crc"].where(rows["id"] != place["id"], 1)))
    (context.paths.cache / "rows.parquet.json").unlink()
    found = {one.check: one for one in audited(open_scene(context))}
    assert found["rows of other sources"].status == LEAK and place["id"] in found["rows of other sources"].detail
    assert found["other sources compared"].status == WARN
    prepare(context, [recipe])
    assert "near duplicate of a row of test: 1 patients" in capsys.readouterr().out
    assert [one.status for one in audited(open_scene(context))] == [OK]


def test_a_row_that_was_put_back_is_found_by_the_audit(context, clinic):
    """The planted leak: the kept-out copy is written into the source's rows, with a manifest that fits."""
    assert audited(open_scene(context)) == []
    clinic.plant("copy", "p0003b", "someone")
    honest, _ = clinic()
    assert [one.status for one in audited(open_scene(context))] == [OK]
    cached = read_table(context.paths.sources / "clinic" / "cache" / context.paths.name / "rows.parquet")
    copy = cached[cached["id"] == "copy"].assign(id="clinic/copy", group="clinic/x", series="clinic/copy", diameter=9.0)
    artifact = checked_artifact(context, "clinic")
    table = pd.concat([honest, copy[honest.columns]], ignore_index=True)
    Artifact.build(artifact, lambda: write_table(artifact.files[0], table))
    (found,) = audited(open_scene(context))
    assert found.status == LEAK and "clinic/copy is p0003b, a scored row (same pixels)" in found.detail


def test_names_that_are_here_too_mean_the_same_patient_unless_they_are_numbers(context, clinic):
    clinic.lines[0]["patient"] = clinic.lines[1]["patient"] = "p0001"
    rows, out = clinic()
    assert len(rows) == 6 and out["reason"].tolist() == ["the name of a patient or picture here"]
    rows, out = clinic(patients="other")
    assert len(rows) == 8 and "1 patients bear names" in facts_of(context, "clinic")["notes"][0]


def test_another_competition_of_the_repository_is_a_source_by_its_paths(context, tmp_path):
    other = sibling(context, replace(DEMO, name="spots-demo", targets=("size",)))
    rng, lines = np.random.default_rng(11), []
    for number in range(6):
        png(other.paths.input / "pictures", f"q{number}", picture(rng, 9.0))
        lines.append({"id": f"q{number}", "path": f"pictures/q{number}.png", "group": f"spot{number // 2}",
                      "size": 9.0 + number, "split": "test" if number == 5 else "train", "series": f"q{number}",
                      "position": 0})
    write_table(other.paths.folds / "index.parquet", pd.DataFrame(lines))
    with pytest.raises(UserError, match="spots-demo has no column diameter; .* --as size=diameter"):
        add_source(context, "spots", Wish(other=other))
    add_source(context, "spots", Wish(other=other, names={"size": "diameter"}))
    rows = read_table(context.paths.sources / "spots" / ROWS).set_index("id")
    assert rows["diameter"].dropna().to_dict() == {f"spots/q{one}": 9.0 + one for one in range(5)}  # test has no label
    assert rows.loc["spots/q3", "group"] == "spots/spot1" and known_sources(context)["spots"].by == "path"
    with pytest.raises(UserError, match="has the pictures of"):
        add_source(context, "own", Wish(other=context))


def test_what_cannot_be_a_source_is_refused_in_words(context, clinic, tmp_path):
    with pytest.raises(UserError, match="'test' cannot name a source"):
        clinic("test")
    with pytest.raises(UserError, match="there is no source nobody; add it with: .*add_source.py _template --demo"):
        add_source(context, "nobody", Wish())
    (tmp_path / "few.csv").write_text("id,diameter\nzzz,9\n")
    with pytest.raises(UserError, match="name none of its pictures, such as new0; compare them with the id of zzz"):
        add_source(context, "clinic", Wish(clinic.folder, tmp_path / "few.csv"))
    clinic()
    with pytest.raises(UserError, match="more reads male, which 8 pictures of clinic lack"):
        rows = read_table(context.paths.cache / "rows.parquet").assign(male=1.0)
        write_table(context.paths.cache / "rows.parquet", rows)
        (context.paths.cache / "rows.parquet.json").unlink()
        learned_rows(context, with_source(context, head__columns=("male",)), 0)
    done = run_script("add_source", "ich", "--demo", "one", "--as", "x", "--out-dir", str(tmp_path))
    assert done.returncode == 1 and "--as x has no '='" in done.stderr
