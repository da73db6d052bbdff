"""Raw files that were damaged after an earlier stage had read them: a quarantine row, no end of a run, tried again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from competitions._template.demo import DEMO, draw
from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.images.shards import Shards
from radstack.report.stage import quarantined
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.running.tables import LOST, quarantines
from radstack.stages import cache as stage
from radstack.stages.cache import cache
from radstack.stages.folds import deal_folds, make_index
from radstack.stages.localize import localize


@pytest.fixture
def localized(tmp_path) -> Context:
    """The template's phantoms after stage 02."""
    context = make_context(DEMO, Options(data_dir=str(tmp_path), out_dir=str(tmp_path), workers=1))
    draw(context.paths.input, series=4, workers=1)
    make_index(context)
    deal_folds(context)
    localize(context)
    return context


def rows(context: Context) -> pd.DataFrame:
    return pd.read_parquet(context.paths.cache / "rows.parquet")


def file_of(context: Context, name: str) -> Path:
    index = pd.read_parquet(context.paths.folds / "index.parquet").set_index("id")
    return context.paths.input / index.loc[name, "path"]


def test_stage_03_sets_a_damaged_picture_aside_and_tries_it_again(localized, capsys):
    cut = file_of(localized, "p0001a")
    whole = cut.read_bytes()
    cut.write_bytes(whole[:len(whole) // 2])
    cache(localized)
    assert "1 pictures could be read in stage 02 and cannot be now" in capsys.readouterr().out
    table, lost = rows(localized), pd.read_csv(localized.paths.cache / LOST)
    assert "p0001a" not in set(table["id"]) and len(table) == 7
    assert lost[["id", "split", "reason"]].values.tolist() == [["p0001a", "train", "truncated"]]
    assert "03" in quarantines(localized.paths) and (quarantined(localized)["stage"] == "03").sum() == 1
    shards = Shards(localized.paths.cache)
    assert all(shards(row.shard, row.slot).any() for row in table.itertuples())

    cache(localized)  # still damaged: the shard is tried again, the rows are kept
    assert "kept" in capsys.readouterr().out and len(rows(localized)) == 7
    cut.write_bytes(whole)
    cache(localized)
    assert len(rows(localized)) == 8 and not (localized.paths.cache / LOST).exists()
    assert Shards(localized.paths.cache)(0, int(rows(localized).set_index("id").loc["p0001a", "slot"])).any()
    capsys.readouterr()
    cache(localized)
    assert "making" not in capsys.readouterr().out


def test_whole_files_are_cached_as_if_nothing_were_damaged(localized, tmp_path):
    cut = file_of(localized, "p0001a")
    whole = cut.read_bytes()
    cut.write_bytes(whole[:60])
    cache(localized)
    before, table = Shards(localized.paths.cache), rows(localized)
    kept = {row.id: before(row.shard, row.slot).copy() for row in table.itertuples()}
    cut.write_bytes(whole)
    cache(localized)
    after = Shards(localized.paths.cache)
    assert all(np.array_equal(kept[row.id], after(row.shard, row.slot)) for row in table.itertuples())


@pytest.mark.parametrize("force", [False, True])
def test_shards_that_another_run_made_since_this_one_looked_are_kept_unless_forced(localized, monkeypatch, force):
    written, run = [], stage.write_shard

    def other_run_first(*_):
        monkeypatch.setattr(stage, "need_disk", lambda *_: None)
        cache(localized)

    monkeypatch.setattr(stage, "write_shard", lambda path, *args: written.append(path) or run(path, *args))
    monkeypatch.setattr(stage, "need_disk", other_run_first)
    cache(replace(localized, options=change(localized.options, force=force)))
    assert len(written) == len(set(written)) * (1 + force) > 1 and len(rows(localized)) == 8


def test_what_cannot_be_opened_now_ends_stage_03_with_its_name(localized):
    file_of(localized, "p0001a").unlink()
    with pytest.raises(UserError, match=r"p0001a\.png could be read in stage 02 .* run the same command again"):
        cache(localized)
    assert not (localized.paths.cache / "rows.parquet").exists()


def test_stages_01_and_02_see_what_was_damaged_before_them(localized):
    cut = file_of(localized, "p0001a")
    whole = cut.read_bytes()
    cut.write_bytes(whole[:40] + bytes(len(whole) - 60) + whole[-20:])  # its header and its end are there
    make_index(localized)
    localize(localized)
    assert pd.read_csv(localized.paths.cache / "quarantine.csv")["reason"].tolist() == ["undecodable"]
    cache(localized)
    assert len(rows(localized)) == 7 and not (localized.paths.cache / LOST).exists()
