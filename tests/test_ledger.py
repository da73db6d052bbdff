"""The ledger of pushed files against a fake of Kaggle's client, and what the page makes of it."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import requests
from evidences import evidence
from kagglesdk.competitions.types.competition_api_service import ApiSubmission
from kagglesdk.competitions.types.submission_status import SubmissionStatus
from test_stages_of_numbers import context  # noqa: F401 (a fixture)

from radstack.commands.clean import clean
from radstack.core.errors import UserError
from radstack.core.files import read_json, sha256, write_table, write_text
from radstack.core.recipe import change
from radstack.report import leaderboard as page
from radstack.report.blocks import Plot, Table, Words
from radstack.report.stage import report_artifact, score_table
from radstack.scoring.intervals import Interval
from radstack.stack.predictions import read_member
from radstack.stages.submit import fetch_scores, push, submit
from radstack.submission import kaggle
from radstack.submission.ledger import FORMAT, NAME, add, read_ledger, settle


class FakeClient:
    """Takes submissions and lists them as kaggle's ``KaggleApi`` does, two on a page."""

    COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE = "Could not submit to competition"

    def __init__(self):
        self.listed, self.trouble, self.numbered, self.meanwhile = [], None, True, []

    def competition_submit(self, file, message, competition, quiet):
        if self.meanwhile:
            self.meanwhile.pop()()
        if isinstance(self.trouble, Exception):
            raise self.trouble
        if self.trouble:
            return SimpleNamespace(message=self.trouble, ref=0)
        one = self.take(file.rpartition("/")[2], message)
        return SimpleNamespace(message="Successfully submitted", ref=one.ref if self.numbered else 0)

    def take(self, file, message, **fields):
        one = ApiSubmission()
        one.ref, one.file_name, one.description = 101 + len(self.listed), file, message
        one.date = datetime.now(UTC).replace(tzinfo=None)
        for name, value in fields.items():
            setattr(one, name, value)
        self.listed.insert(0, one)
        return one

    def competition_submissions(self, competition, page_number, page_size):
        if self.meanwhile:
            self.meanwhile.pop()()
        last = max(-(-len(self.listed) // 2), 1)
        start = 2 * (min(page_number, last) - 1)  # as some servers do, the last page again beyond the last
        return self.listed[start:start + 2]


@pytest.fixture
def client(monkeypatch):
    fake = FakeClient()
    monkeypatch.setattr(kaggle, "connect", lambda: fake)
    return fake


@pytest.fixture(scope="module")
def done(context):  # noqa: F811
    for name in ("both", "boys"):
        submit(context, name)
    return context


@pytest.fixture
def made(done):
    """Submissions that nobody pushed yet."""
    yield done
    for path in [done.paths.submissions / NAME, *done.paths.submissions.glob("ledger/*")]:
        path.unlink(missing_ok=True)


def ledger_of(made):
    return read_ledger(made.paths.submissions)


def rewrite(made, **columns):
    write_table(made.paths.submissions / NAME, ledger_of(made).assign(**columns))


def test_a_pushed_file_stands_in_the_ledger_and_gets_its_scores(made, client, capsys):
    path = made.paths.submissions / "both.csv"
    push(made, path, "three  folds,\nfirst")
    push(made, path.with_name("boys.csv"), "members alone")
    said = capsys.readouterr().out
    assert "Successfully submitted" in said and "08_submit.py ages" in said and "--scores" in said
    first = ledger_of(made).iloc[0]
    assert first["sha256"] == sha256(path) and first["key"] == read_json(path.with_name("both.csv.json"))["key"]
    assert first[["file", "model", "message", "status", "ref"]].tolist() == [
        "both.csv", "both", "three folds, first", "pushed", "101"]
    members = {"both": read_member(made.paths.oof / "both", [0, 1, 2])}
    scores = score_table(made, members).query("split == 'out of fold'").set_index("model")
    assert first[["cv", "low", "high"]].astype(float).tolist() == pytest.approx(
        scores.loc["both", ["score", "low", "high"]].tolist(), rel=1e-6)

    for one, status, score in zip(client.listed, ("COMPLETE", "PENDING"), ("4.25", "")):
        one.status, one.public_score = SubmissionStatus[status], score
    capsys.readouterr()
    before = report_artifact(made).key
    fetch_scores(made)
    assert report_artifact(made).key != before
    assert ledger_of(made)[["status", "public"]].to_numpy().tolist() == [["pending", ""], ["complete", "4.25"]]
    said = capsys.readouterr().out
    assert "1 of 2 submissions of the ledger have a score" in said and "public 4.25, private not yet" in said


def test_the_same_bytes_go_twice_only_by_force(made, client, capsys):
    path = made.paths.submissions / "both.csv"
    for _ in range(2):
        push(made, path, "first")
    said = capsys.readouterr().out
    assert len(client.listed) == len(ledger_of(made)) == 1
    assert "not uploaded: the same bytes were pushed as both.csv of 20" in said and "--force" in said.splitlines()[-1]
    push(replace(made, options=change(made.options, force=True)), path, "first")
    assert len(client.listed) == len(ledger_of(made)) == 2
    push(replace(made, options=change(made.options, dry_run=True, force=True)), path, "first")
    fetch_scores(replace(made, options=change(made.options, dry_run=True)))
    assert len(client.listed) == len(ledger_of(made)) == 2


def test_a_refused_file_leaves_no_row_and_a_broken_connection_one_that_is_found_again(made, client, capsys):
    path, client.trouble = made.paths.submissions / "both.csv", client.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE
    with pytest.raises(UserError, match="did not take"):
        push(made, path, "first")
    assert ledger_of(made).empty
    client.trouble = requests.ConnectionError("reset")
    with pytest.raises(UserError, match="cannot reach Kaggle"):
        push(made, path, "first")
    assert ledger_of(made)["status"].tolist() == ["uploading"]
    client.take("both.csv", "first", public_score="4.5", status=SubmissionStatus.COMPLETE)  # it had arrived
    fetch_scores(made)
    assert ledger_of(made)[["status", "public", "ref"]].to_numpy().tolist() == [["complete", "4.5", "101"]]


@pytest.mark.parametrize("taken", [True, False])
def test_what_other_runs_write_during_an_upload_stays(made, client, capsys, taken):
    """Another file is pushed meanwhile, and the scores are fetched before the upload is over."""
    refusal = client.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE

    def other():
        push(made, made.paths.submissions / "boys.csv", "second")
        fetch_scores(made)
        assert ledger_of(made)["status"].tolist() == ["uploading", "pending"]
        client.trouble = None if taken else refusal

    client.meanwhile = [other]
    if taken:
        push(made, made.paths.submissions / "both.csv", "first")
    else:
        with pytest.raises(UserError, match="did not take"):
            push(made, made.paths.submissions / "both.csv", "first")
    files = [["both.csv", "pushed", "102"]] * taken + [["boys.csv", "pending", "101"]]
    assert ledger_of(made)[["file", "status", "ref"]].to_numpy().tolist() == files


def test_a_file_that_is_pushed_while_scores_are_fetched_is_not_lost(made, client, capsys):
    push(made, made.paths.submissions / "boys.csv", "first")
    listed = [client.listed.pop()]

    def other():
        push(made, made.paths.submissions / "both.csv", "second")
        listed.append(client.listed.pop())

    client.meanwhile = [other]
    fetch_scores(made)
    assert ledger_of(made)["status"].tolist() == ["lost", "pushed"]
    client.listed = listed
    fetch_scores(made)
    assert ledger_of(made)["status"].tolist() == ["pending", "pending"]


def test_without_numbers_a_row_is_matched_by_file_message_and_nearest_time(made, client, capsys):
    client.numbered = False
    for name in ("both.csv", "boys.csv"):
        push(made, made.paths.submissions / name, "same words")
    push(replace(made, options=change(made.options, force=True)), made.paths.submissions / "both.csv", "same words")
    times = [datetime(2026, 1, 5, hour) for hour in (8, 9, 10)]
    rewrite(made, time=[f"{one:{FORMAT}}" for one in times])
    scores, late = ("3", "2", "1"), timedelta(minutes=3)
    for one, time, score in zip(client.listed, reversed(times), scores):
        one.date, one.public_score, one.status = time + late, score, SubmissionStatus.COMPLETE
    client.take("both.csv", "same words", date=times[0] - timedelta(days=2), public_score="9")
    fetch_scores(made)
    assert ledger_of(made)["public"].tolist() == ["1", "2", "3"]
    assert "not in the ledger, pushed by other means: both.csv of 2026-01-03" in capsys.readouterr().out


def test_lost_failed_unknown_and_edited_ones_are_said_in_a_line_each(made, client, capsys):
    push(made, made.paths.submissions / "both.csv", "first")
    push(made, made.paths.submissions / "boys.csv", "second")
    client.listed[0].status, client.listed[0].error_description = SubmissionStatus.ERROR, "a row\nis missing"
    del client.listed[1]
    for place in range(8):
        client.take("notebook.csv", f"by hand {place}", ref=900 + place, public_score="4.75")
    rewrite(made, cv=["4.1", ledger_of(made)["cv"].iloc[1]])
    capsys.readouterr()
    fetch_scores(made)
    said = capsys.readouterr().out.splitlines()
    assert ledger_of(made)["status"].tolist() == ["lost", "error"] and len(ledger_of(made)) == 2
    for words in ("(second): Kaggle could not score it (a row is missing)", "(first): Kaggle does not list it",
                  "line 2 was edited after the push", "and 3 more of these"):
        assert sum(words in line for line in said) == 1, words
    assert sum("not in the ledger" in line and "notebook.csv" in line for line in said) == 5
    push(made, made.paths.submissions / "both.csv", "again")
    assert len(ledger_of(made)) == 3


@pytest.mark.parametrize(("old", "new", "message"), [
    (",cv,", ",score,", "has no column cv; it needs time,file"),
    (",pushed,,", ",pushed,\"4,5\",", "line 2: public is '4,5'"),
    ("Z,both", ",both", r"line 2: time is '.*'; write it as 2026-01-31T12:00:00Z, UTC")])
def test_a_ledger_that_cannot_be_read_names_the_line(made, client, old, new, message):
    push(made, made.paths.submissions / "both.csv", "first")
    text = (made.paths.submissions / NAME).read_text()
    assert old in text
    write_text(made.paths.submissions / NAME, text.replace(old, new))
    for work in (lambda: fetch_scores(made), lambda: push(made, made.paths.submissions / "boys.csv", "second")):
        with pytest.raises(UserError, match=message):
            work()
    assert len(client.listed) == 1


def test_a_data_set_has_no_leaderboard(made, client):
    for name, words in (("owner/hands", "takes no submissions"), ("", "no name at Kaggle")):
        without = replace(made, competition=change(made.competition, data__kaggle=name))
        with pytest.raises(UserError, match=words):
            push(without, made.paths.submissions / "both.csv", "x")
        with pytest.raises(UserError, match=words):
            fetch_scores(without)


def test_clean_leaves_the_ledger(made, client, tmp_path, capsys):
    folder = replace(made.paths, out=tmp_path)
    push(made, made.paths.submissions / "both.csv", "first")
    folder.submissions.parent.mkdir()
    shutil.copytree(made.paths.submissions, folder.submissions)
    clean(replace(made, paths=folder), ("input",), delete=True)
    assert sorted(path.name for path in folder.submissions.iterdir()) == ["ledger", NAME]


# -- the page ---------------------------------------------------------------------------------------------------------


def pushed(folder, name, score, public, losses=None):
    """One row as a push and ``--scores`` leave it; its file's hash is the name's."""
    row = add(folder, f"{name}.csv", name * 20, "words", "key", score,
              pd.DataFrame({"group": [], "loss": [], "rows": []}) if losses is None else losses)
    settle(folder, row, 0)
    ledger = read_ledger(folder)
    ledger.loc[ledger.index[-1], ["status", "public"]] = ["complete" if public else "pending", public]
    write_table(folder / NAME, ledger)


@pytest.fixture
def shown(tmp_path):
    """A page's evidence of 100 training and 100 test patients: what is expected is the interval times root two."""
    rng = np.random.default_rng(0)
    truth = (rng.random((400, 2)) < 0.4).astype(float)
    found = evidence(tmp_path, {"net": np.full((400, 2), 0.4, np.float32)}, truth)
    test = found.index.assign(split="test", group="t" + found.index["group"])
    return replace(found, index=pd.concat([found.index, test], ignore_index=True))


def told(shown):
    blocks = page.leaderboard(shown)
    words = [(block.tone, block.words) for block in blocks if isinstance(block, Words)]
    return words, [block.frame for block in blocks if isinstance(block, Table)], [
        block for block in blocks if isinstance(block, Plot)]


def test_without_a_push_the_page_says_nothing_and_without_scores_how_to_get_them(shown):
    assert page.leaderboard(shown) == []
    pushed(shown.context.paths.submissions, "a", Interval(0.5, 0.4, 0.6), "")
    words, tables, plots = told(shown)
    assert "No leaderboard scores yet; type: python src/08_submit.py small --scores" in words[0][1] and not plots
    assert len(tables[0]) == 1


def test_scores_within_what_is_expected_and_one_outside(shown):
    folder = shown.context.paths.submissions
    pushed(folder, "a", Interval(0.5, 0.4, 0.6), "0.63")
    pushed(folder, "b", Interval(0.45, 0.35, 0.55), "0.58")
    words, tables, plots = told(shown)
    assert len(words) == 1 and words[0][0] == "good" and "1 of 1 pairs stand in the same order" in words[0][1]
    assert tables[0]["verdict"].tolist() == ["as expected"] * 2 and len(plots) == 1 and "private" not in tables[0]
    assert tables[0]["expected to"].tolist() == pytest.approx([0.5 + 0.1 * 2**0.5, 0.45 + 0.1 * 2**0.5])
    pushed(folder, "c", Interval(0.4, 0.3, 0.5), "0.55")
    words, tables, _ = told(shown)
    assert tables[0]["verdict"].iloc[-1] == "worse than expected"
    assert words[0][0] == "warn"
    assert "1 of 3 submissions score outside of what is expected (1 worse, 0 better)" in words[0][1]


@pytest.mark.parametrize("paired", [True, False])
def test_an_order_reversed_by_more_than_noise_is_told_from_noise_by_pairs(shown, paired):
    """Both losses go together, so that a difference of .01 is sure in pairs and lost in intervals of .1 to either side."""
    folder, rng = shown.context.paths.submissions, np.random.default_rng(1)
    base = rng.normal(2, 1, 100)
    for name, shift, public in (("a", 0.0, "0.52"), ("b", 0.04, "0.50")):
        losses = pd.DataFrame({"group": [f"p{one}" for one in range(100)], "rows": 4,
                               "loss": base + shift + rng.normal(0, 0.01, 100)})
        value = losses["loss"].sum() / 400
        pushed(folder, name, Interval(value, value - 0.1, value + 0.1), public, losses if paired else None)
    words, _, _ = told(shown)
    assert [tone for tone, _ in words] == ["warn" if paired else "good"]
    if paired:
        assert "reverses the order" in words[0][1] and "a of 20" in words[0][1] and "0.0200 worse there" in words[0][1]
    else:
        assert "0 of 1 pairs" in words[0][1]


def test_an_edited_row_is_marked_on_the_page(shown):
    folder = shown.context.paths.submissions
    pushed(folder, "a", Interval(0.5, 0.4, 0.6), "0.52")
    write_table(folder / NAME, read_ledger(folder).assign(cv="0.51"))
    assert told(shown)[1][0]["verdict"].tolist() == ["as expected, edited"]
