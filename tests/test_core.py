"""Files, recipes, artifacts and folds: what everything else stands on."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from competitions import load
from radstack.core.artifact import Artifact, Lesson, Part, content_hash
from radstack.core.code import code_digest
from radstack.core.errors import LeakError, UserError
from radstack.core.files import need_disk, replacing, sweep, write_table, write_text
from radstack.core.folds import check_folds, fold_hash, fold_of, make_folds
from radstack.core.lock import alone
from radstack.core.lookup import places
from radstack.core.recipe import as_dict, change, digest, parse_edits
from radstack.recipes.competition import FoldRecipe
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.running.tables import read_folds
from radstack.stages.folds import deal_folds


@dataclass(frozen=True)
class Inner:
    lr: float = 1e-3
    betas: tuple = (0.9, 0.99)


@dataclass(frozen=True)
class Outer:
    name: str = "base"
    inner: Inner = Inner()
    extra: dict = field(default_factory=dict)
    painter: Callable[[], int] | None = None


def test_change_reaches_into_a_recipe_and_leaves_the_base_alone():
    base = Outer()
    variant = change(base, name="hot", inner__lr=1, inner__betas=[0.5, 0.9])
    assert (variant.name, variant.inner.lr, variant.inner.betas) == ("hot", 1.0, (0.5, 0.9))
    assert base == Outer()


@pytest.mark.parametrize(("edit", "words"), [({"inner__lrr": 1.0}, "did you mean 'lr'"), ({"nane": "x"}, "'name'"),
                                             ({"name__x": 1}, "has no parts"), ({"inner__lr": "hot"}, "takes a float"),
                                             *(({"painter": value}, "painter takes what a command line cannot write")
                                               for value in ("Painter", {}, [0.3], 0.3, True))])
def test_change_refuses_what_does_not_fit(edit, words):
    with pytest.raises(UserError, match=words):
        change(Outer(), **edit)


def test_edits_of_the_command_line():
    assert parse_edits(["optim.lr=1e-4", "backbone.name=timm/resnet18"]) == {
        "optim__lr": 1e-4, "backbone__name": "timm/resnet18"}
    with pytest.raises(UserError, match="no '='"):
        parse_edits(["optim.lr"])


def test_digest_sees_every_field():
    assert digest(Outer()) == digest(Outer())
    assert digest(Outer()) != digest(change(Outer(), inner__lr=2.0))
    assert as_dict(Outer())["inner"]["is"] == "Inner"
    assert as_dict({"recipe": Outer(), "fold": 1})["recipe"]["inner"]["lr"] == 1e-3


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UserError, match="free some disk"), replacing(path) as part:
        part.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    path = tmp_path / "a.txt"
    with pytest.raises(UserError, match="cannot write"), replacing(path) as part:
        part.symlink_to("/dev/full")
        part.write_text("x" * 100_000)
    assert not path.exists()


def test_need_disk_refuses_early(tmp_path):
    need_disk(tmp_path / "not" / "yet", 1000, "a test")
    with pytest.raises(UserError, match="needs 1,000,000,000.0 GB"):
        need_disk(tmp_path, 10**18, "a test")


def test_sweep_removes_orphans(tmp_path):
    (tmp_path / ".x.parquet.99999999.part").write_text("half")
    (tmp_path / "x.parquet").write_text("whole")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


@pytest.fixture
def made(tmp_path):
    source, result = tmp_path / "in.csv", tmp_path / "out.csv"
    write_text(source, "a\n1\n")

    def artifact(recipe=Inner(), version=1):
        return Artifact("01_test", version, (result,), recipe, (source,))

    artifact().make(lambda: write_text(result, "b\n2\n"))
    return artifact, source, result


def test_unchanged_work_is_kept_and_changed_work_is_made_again(made):
    artifact, source, result = made
    assert artifact().why() == ""
    assert artifact(change(Inner(), lr=2.0)).why() == "the recipe changed"
    assert artifact(version=2).why() == "the stage changed"
    write_text(source, "a\n2\n")
    os.utime(source, ns=(1, 1))  # on a quick machine both could be of one tick of the file system's clock
    assert artifact().why() == "in.csv changed"
    result.unlink()
    assert artifact().why() == "out.csv is gone"


def test_a_touched_file_is_kept_but_an_edited_one_is_named(made):
    artifact, _, result = made
    os.utime(result, ns=(1, 1))
    assert artifact().why() == ""
    result.write_text("b\n3\n")
    os.utime(result, ns=(2, 2))
    with pytest.raises(UserError, match=r"out\.csv was edited"):
        artifact().why()
    with pytest.raises(UserError, match=r"out\.csv was edited"):
        content_hash(result)


def test_a_file_that_the_manifest_does_not_list_is_of_an_earlier_run(tmp_path):
    """As the table of single networks where a recipe had two seeds, then one, and has two again."""
    first, second = tmp_path / "out.csv", tmp_path / "more.csv"
    both, one = (Artifact("01_test", 1, files, {"seeds": len(files)}) for files in ((first, second), (first,)))
    both.make(lambda: [write_text(path, "of two") for path in both.files] and None)
    one.make(lambda: write_text(first, "of one"))
    assert both.why() == "more.csv is of an earlier run"
    both.make(lambda: [write_text(path, "of two again") for path in both.files] and None)
    assert both.why() == ""
    one.make(lambda: write_text(first, "of one"))
    first.write_text("by hand")
    with pytest.raises(UserError, match=r"out\.csv was edited"):
        both.why()


def test_a_file_without_manifest_is_unfinished(made):
    artifact, _, _ = made
    artifact().manifest.unlink()
    assert artifact().why() == "unfinished"


def fake_labels(patients=300, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"P{number}" for number in range(patients)], rng.integers(5, 60, patients))
    rare = (rng.random(patients) < 0.04)[np.unique(groups, return_inverse=True)[1]] & (rng.random(len(groups)) < 0.3)
    common = rng.random(len(groups)) < 0.14
    return pd.Series(groups), pd.DataFrame({"rare": rare.astype(float), "common": common.astype(float)})


def test_folds_share_patients_rows_and_rare_labels_evenly():
    groups, labels = fake_labels()
    folds = make_folds(groups, labels, 5, 0)
    assert folds["group"].is_unique and set(folds["group"]) == set(groups)
    fold = groups.map(folds.set_index("group")["fold"])
    counts = labels.assign(rows=1).groupby(fold).sum()
    assert (counts["rows"] / counts["rows"].mean()).between(0.9, 1.1).all()
    assert (counts["rare"] / counts["rare"].mean()).between(0.5, 1.5).all()


def test_folds_do_not_depend_on_row_order_and_do_depend_on_the_seed():
    groups, labels = fake_labels(60)
    order = np.random.default_rng(1).permutation(len(groups))
    shuffled = make_folds(groups[order].reset_index(drop=True), labels.iloc[order].reset_index(drop=True), 3, 0)
    assert fold_hash(make_folds(groups, labels, 3, 0)) == fold_hash(shuffled)
    assert fold_hash(make_folds(groups, labels, 3, 0)) != fold_hash(make_folds(groups, labels, 3, 1))


def small_index():
    return pd.DataFrame({"id": list("abcd"), "split": ["train"] * 3 + ["test"], "group": ["p", "q", "r", "s"],
                         "bleed": [1.0, 0.0, 1.0, np.nan]})


def test_check_folds_raises_on_a_leak_and_names_an_absent_class():
    index = small_index()
    folds = pd.DataFrame({"group": ["p", "q", "r"], "fold": [0, 1, 0]})
    assert check_folds(folds, index, ["bleed"]) == ["fold 1 has no bleed"]
    assert fold_of(index, folds).tolist() == [0, 1, 0, -1]
    with pytest.raises(LeakError, match="patient p is in two folds"):
        check_folds(pd.concat([folds, folds.assign(fold=1)]), index, ["bleed"])
    with pytest.raises(UserError, match="patient r has no fold"):
        check_folds(folds[:2], index, ["bleed"])
    other = pd.DataFrame({"group": ["p", "q", "r", "x"], "fold": [0, 1, 0, 2]})
    with pytest.raises(UserError, match="fold 2 holds no picture"):
        check_folds(other, index, ["bleed"])


def test_more_folds_than_patients_is_refused():
    index = small_index()[:3]
    with pytest.raises(UserError, match=r"folds\.count=3"):
        make_folds(index["group"], index[["bleed"]], 5, 0)


# -- the code of a competition ----------------------------------------------------------------------------------------

SITES = '''
def by_site(train, labels, count, seed):
    """The site is the fold."""
    return train.drop_duplicates("group").assign(fold=lambda rows: rows["site"] % count)[["group", "fold"]]
'''


def written(folder, name, code):
    """The functions of a module of its own."""
    (folder / f"{name}.py").write_text(code)
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_edit_of_a_competitions_own_code_changes_the_key_and_one_of_its_words_does_not(tmp_path):
    plain, reworded, edited = (written(tmp_path, name, code).by_site for name, code in {
        "plain": SITES, "reworded": SITES.replace("The site", "# so\n    # The hospital"),
        "edited": SITES.replace("% count", "// count")}.items())
    keys = [digest(FoldRecipe(dealer=dealer)) for dealer in (None, plain, reworded, edited)]
    assert keys[1] == keys[2] and len(set(keys)) == 3
    assert "0x" not in json.dumps(as_dict(FoldRecipe(dealer=plain)))


def test_code_typed_at_a_prompt_has_no_digest():
    assert code_digest(eval("lambda: 1")) == "" and code_digest(Outer) != code_digest(Inner)


def test_a_competition_deals_its_own_folds_and_its_edit_deals_anew(tmp_path, capsys):
    index = pd.DataFrame({"id": list("abcdefgh"), "group": list("pqrstuvw"), "split": ["train"] * 6 + ["test"] * 2,
                          "site": [0, 1, 2, 0, 1, 2, 0, 0], "any": [1, 0] * 4})
    module = written(tmp_path, "sites", SITES)
    competition = change(load("ich"), targets=("any",), folds=FoldRecipe(3, dealer=module.by_site))
    competition = replace(competition, data=replace(competition.data, balance=None))
    context = make_context(competition, Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))
    write_table(context.paths.folds / "index.parquet", index)
    for _ in range(2):
        deal_folds(context)
    assert read_folds(context).set_index("group")["fold"].to_dict() == dict(zip("pqrstu", [0, 1, 2, 0, 1, 2]))
    assert capsys.readouterr().out.count("making") == 1
HOLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from radstack.core.lock import alone
with alone(Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_of_two_runs_at_one_file_the_second_is_told_and_a_killed_one_is_no_hindrance(tmp_path):
    file = tmp_path / "made" / "out.csv"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(Path(__file__).parents[1] / "src"), str(file)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another run is writing .*out.csv; wait until it ends"), alone(file):
            pass
        with alone(file.with_name("other.csv")):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with alone(file), pytest.raises(UserError, match="another run"), alone(file):
        pass
    assert not list(file.parent.iterdir())


def test_a_lesson_is_the_rows_and_labels_that_a_network_meets(tmp_path):
    table = pd.DataFrame({"split": ["train"] * 4 + ["test"], "group": list("abcde"), "male": [0, 1, 0, 1, 1],
                          "left": [0.0, 1, 0, 1, np.nan], "right": [1.0, 1, 0, 0, np.nan]})
    pd.DataFrame({"group": list("abcd"), "fold": [0, 0, 1, 1]}).to_csv(tmp_path / "folds.csv", index=False)
    whole = Lesson(("left", "right"), ("left",), folds=tmp_path / "folds.csv", fold=1)
    lessons = {"left": whole, "both": change(whole, learned=("left", "right")), "other fold": change(whole, fold=0),
               "men": change(whole, keep="male == 1"), "none": Lesson(("left", "right"))}

    def digests(row=None, **values):
        written = table.copy()
        for name, value in values.items():
            written.loc[row, name] = value
        written.to_parquet(tmp_path / "rows.parquet")
        return {name: Part(tmp_path / "rows.parquet", "train", lesson).digest() for name, lesson in lessons.items()}

    before = digests()

    def moved(row, **values):
        after = digests(row, **values)
        return {name for name in lessons if after[name] != before[name]}

    assert len(set(before.values())) == len(lessons) and digests() == before
    assert moved(0, left=1.0) == {"left", "both"}  # a woman of fold 0
    assert moved(1, left=0.0) == {"left", "both", "men"}
    assert moved(2, left=1.0) == {"other fold"}
    assert moved(1, right=0.0) == {"both"}
    assert moved(0, male=1) == set(lessons) - {"other fold"}
    assert moved(4, male=0) == set()
    assert Part(tmp_path / "rows.parquet", "train", whole).name.endswith("rows.parquet: train rows but fold 1")


@pytest.mark.parametrize(("dealer", "said"), [
    (lambda train, labels, count, seed: train.assign(fold=train["site"]),
     "ended with KeyError: 'site'; train has the columns id, group, split, any, and labels any"),
    (lambda train, labels, count, seed: train.assign(fold=train.site), "no attribute 'site'; train has the columns id"),
    (lambda train, labels, count, seed: train.assign(fold=labels["bleed"]), "KeyError: 'bleed'; .* and labels any"),
    (lambda train, labels, count, seed: train[["group"]], "gives no column fold"),
    (lambda train, labels, count, seed: [0, 1, 0, 1], "gives a list and no table; it must give each patient")])
def test_a_dealer_that_finds_no_column_or_gives_none_ends_in_one_line(tmp_path, dealer, said):
    index = pd.DataFrame({"id": list("abcd"), "group": list("pqrs"), "split": "train", "any": [1, 0, 1, 0]})
    competition = change(load("ich"), targets=("any",), folds=FoldRecipe(2, dealer=dealer))
    competition = replace(competition, data=replace(competition.data, balance=None))
    context = make_context(competition, Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))
    write_table(context.paths.folds / "index.parquet", index)
    with pytest.raises(UserError, match=f"the dealer <lambda> .*{said}"):
        deal_folds(context)


@pytest.mark.parametrize("kind", ["str", "object", "int64"])
def test_places_are_those_of_pandas(kind):
    known = pd.concat([pd.Series([5, 3], dtype=kind), pd.Series([9, 1], dtype=kind)], ignore_index=True)
    wanted = pd.Series([1, 2, 3, 3, 5], dtype=kind)
    assert places(known, wanted).tolist() == pd.Index(known).get_indexer(wanted).tolist() == [3, -1, 1, 1, 0]
    assert places(known.iloc[:0], wanted).tolist() == [-1] * 5 and len(places(known, wanted.iloc[:0])) == 0
