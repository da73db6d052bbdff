"""What cannot be meant is refused before any work, in one line that says what is allowed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scripts import run_script
from test_text import predict, small

from competitions import load
from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.core.folds import check_folds, make_folds
from radstack.core.recipe import change
from radstack.running.cli import make_context, open_context, parser, run
from radstack.running.context import Context, Options
from radstack.running.tables import check_folds_fit
from radstack.running.tasks import per_fold
from radstack.stages.folds import deal_folds
from radstack.stages.stack import stack
from radstack.stages.train import train, train_fold, weights_artifact

READS = ("only", "folds", "name", "dry_run", "force", "workers", "gpus", "jobs", "checkpoint_seconds", "demo_size", "show")


def refused(capsys: pytest.CaptureFixture, *arguments: str, status: int = 2) -> str:
    """The one line with which a stage refuses its command line."""
    def main() -> None:
        open_context(parser("", *READS).parse_args(["ich", "--demo", *arguments]), load)

    with pytest.raises(SystemExit) as ended:
        run(main)
    told = capsys.readouterr().err
    assert ended.value.code == status and len(told.strip().splitlines()) == 1, told
    assert told.startswith("error: ")
    return told


@pytest.mark.parametrize("option, value, allowed", [
    ("--jobs", "0", "whole number, 1 or more"), ("--jobs", "two", "whole number, 1 or more"),
    ("--workers", "0", "1 or more"), ("--workers", "-2", "1 or more"), ("--gpus", "0", "1 or more"),
    ("--limit", "-1", "0 or more"), ("--limit", "1.5", "whole number"), ("--show", "-1", "0 or more"),
    ("--demo-size", "-3", "0 or more"), ("--checkpoint-seconds", "0", "above 0"), ("--checkpoint-seconds", "nan", "above 0"),
    ("--folds", "a", "numbers with commas between, such as 0,1"), ("--folds", "0;1", "such as 0,1"),
    ("--folds", "7", "the folds 0 to 2"), ("--folds", "-1", "the folds 0 to 2"), ("--folds", ",", "names nothing"),
    ("--only", ",", "names nothing"),
])  # fmt: skip
def test_an_option_that_cannot_be_meant(capsys, option, value, allowed):
    told = refused(capsys, option, value)
    assert option in told and allowed in told


@pytest.mark.parametrize("edit, allowed", [
    ("folds.count=0", "2 or more"), ("folds.count=-3", "2 or more"), ("folds.count=1", "2 or more"),
    ("folds.count=128", "127 or fewer"),
    ("folds.count=many", "takes a int such as 3"), ("cache.size=[0,0]", "height and width in pixels, such as [256,256]"),
    ("cache.size=[64]", "height and width"), ("cache.size=[64,-64]", "height and width"), ("cache.size=[64.5,64]", "height"),
    ("cache.size=64", "takes a tuple"), ("cache.per_shard=0", "such as 2048"), ("cache.dtype=float64", "int16, uint8"),
])  # fmt: skip
def test_an_edit_that_cannot_be_meant(capsys, edit, allowed):
    assert allowed in refused(capsys, "--set", edit, status=1)


@pytest.mark.parametrize("name", ["../../x", "a/b", ".hidden", "", " ", "-x", "x\ny", "x" * 99, "constant", "resnet"])
def test_a_variant_has_a_name_that_can_be_a_folder_of_its_own(capsys, tmp_path, name):
    place = ("--out-dir", str(tmp_path), "--only", "resnet", "--set", "optim.lr=1e-3", f"--name={name}")
    if name == "":  # then --set changes the competition, which has no such field
        assert "no field 'optim'" in refused(capsys, *place, status=1)
    else:
        assert "--name" in refused(capsys, *place, status=1)
    assert not list(tmp_path.rglob("*"))


def test_a_variant_that_trains_nothing_is_refused(capsys, tmp_path):
    place = ("--out-dir", str(tmp_path), "--only", "resnet", "--name", "none")
    assert "train.epochs is 0; take 1 or more" in refused(capsys, *place, "--set", "train.epochs=0", status=1)
    assert "train.batch_size is -8" in refused(capsys, *place, "--set", "train.batch_size=-8", status=1)


# -- folds that do not fit the recipe ---------------------------------------------------------------------------------


def context_of(place: Path, count: int, dealt: int) -> Context:
    """Ages whose recipe has ``count`` folds and all their predictions, on a table that deals ``dealt``."""
    context = small("bone_age", place)
    index = pd.DataFrame({"id": [f"{one}" for one in range(20)], "split": ["train"] * 16 + ["test"] * 4, "position": 0,
                          "male": np.arange(20) % 2, "boneage": [*np.arange(16) * 10.0, *[np.nan] * 4], "crc": 1})
    index = index.assign(group=index["id"], series=index["id"], shard=0, slot=np.arange(20))
    train_rows = index[index["split"] == "train"]
    for table in (context.paths.folds / "index.parquet", context.paths.cache / "boxes.parquet",
                  context.paths.cache / "rows.parquet"):
        write_table(table, index)
    for folds in (count, dealt):
        write_table(context.paths.folds / "folds.csv", make_folds(train_rows["group"], train_rows[["male"]], folds, 0))
        if folds == count:
            predict(context)
    return context


@pytest.mark.parametrize("dealt", [4, 3])
def test_folds_of_another_number_are_refused_by_every_stage(tmp_path, dealt):
    context = context_of(tmp_path, 2, dealt)
    command = rf"deals {dealt} folds, the recipe has 2; add --set folds.count={dealt} to each command, or deal again with: "
    stages = (lambda: stack(context, context.competition.models.stackers[0]), lambda: train(context),
              lambda: check_folds_fit(context))
    for stage in stages:
        with pytest.raises(UserError, match=command + "python src/01_make_folds.py bone_age"):
            stage()
    assert not (context.paths.oof / "0012").exists()
    with pytest.raises(UserError, match="0 to 1|deals"):
        per_fold(context, "train", context.experiments, weights_artifact, train_fold)


def test_a_dry_run_says_that_other_folds_would_be_dealt(tmp_path, capsys):
    context = context_of(tmp_path, 2, 3)
    deal_folds(Context(context.competition, context.paths, change(context.options, dry_run=True)))
    assert "would make" in capsys.readouterr().out


def test_a_recipe_of_one_fold_has_nothing_to_do_on_another(tmp_path):
    context = context_of(tmp_path, 2, 2)
    alone = change(context.experiments[0], folds=(0,))
    there = make_context(context.competition, change(context.options, folds=(1,)))
    with pytest.raises(UserError, match="--folds 1: NA works on fold 0 alone"):
        per_fold(there, "train", [alone], weights_artifact, train_fold)
    passing = make_context(context.competition, change(context.options, folds=(1,), all_stages=True))
    assert per_fold(passing, "train", [alone], weights_artifact, train_fold) == []


@pytest.mark.parametrize("patients, message", [(0, "there are 0"), (1, "there are 1"), (3, "use --set folds.count=3")])
def test_too_few_patients_get_advice_that_works(patients, message):
    groups = pd.Series([f"p{one}" for one in range(patients)], dtype="str")
    with pytest.raises(UserError, match=message):
        make_folds(groups, pd.DataFrame({"any": np.ones(patients)}), 5, 0)
    if "use" in message:
        assert make_folds(groups, pd.DataFrame({"any": np.ones(patients)}), 3, 0)["fold"].nunique() == 3


def test_a_fold_table_of_other_data_says_the_whole_command(tmp_path):
    make_context(load("ich", demo=True), Options())  # from now on errors know whose they are
    folds = pd.DataFrame({"group": ["a", "b"], "fold": [0, 1]})
    index = pd.DataFrame({"group": ["a", "c"], "split": "train", "any": 1})
    with pytest.raises(UserError, match=r"patient c has no fold.*type: python src/01_make_folds.py ich --demo --force"):
        check_folds(folds, index, ["any"])


@pytest.mark.parametrize("options, reader", [(("--push",), "--kaggle"), (("--test-data", "a/b"), "--kaggle"),
                                             (("--hours", "2"), "--kaggle"), (("--times", "3"), "--rehearse")])
def test_an_option_of_a_bundle_without_the_one_that_reads_it(options, reader):
    done = run_script("bundle", "ich", "--demo", *options)
    assert done.returncode == 2 and f"{options[0]} is read with {reader} alone" in done.stderr
