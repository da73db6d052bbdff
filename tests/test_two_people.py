"""Two persons of one group and one folder: what one makes the other reads and goes on with, and nobody meets a traceback."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from events import watchdog
from people import GROUP, become
from scripts import run_script

from radstack.core.files import sweep, write_text
from radstack.core.lock import working_on
from radstack.core.parallel import mapped_rows
from radstack.core.say import saying_to

ROOT = Path(__file__).parents[1]
ADA, BEN = 61001, 61002
SHARED, PRIVATE, USUAL = 0o002, 0o077, 0o022
"""Umasks: of people who share, of those who do not, and most systems' own."""
STAGES = [path.stem for path in sorted((ROOT / "src").glob("0[0-9]_*.py"))]
UNCOMPARED = ("_log/", ".json", "index.html", "reports/", "/parts")
"""What tells of the run that made it, or of the times of the raw files."""


@pytest.fixture(scope="module", autouse=True)
def root():
    """Other people can be played by root alone."""
    if not hasattr(os, "getuid") or os.getuid():
        pytest.skip("only root can become another person")


@pytest.fixture(scope="module")
def office():
    """A folder that everybody may enter (those of pytest are private), with a small copy of the template as competition."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        copy = place / "mine" / "lungs"
        shutil.copytree(ROOT / "src/competitions/_template", copy, ignore=shutil.ignore_patterns("__pycache__"))
        for file in copy.glob("*.py"):
            text = file.read_text(encoding="utf-8").replace("_template", "lungs").replace("epochs=10", "epochs=1")
            file.write_text(text, encoding="utf-8")
        yield place


@dataclass
class Day:
    """Commands of a day in one folder, which its group may write."""

    office: Path
    name: str
    orders: list[dict[str, Any]] = field(default_factory=list)

    @property
    def place(self) -> Path:
        return self.office / self.name

    def open(self) -> "Day":
        self.place.mkdir()
        os.chown(self.place, ADA, GROUP)
        self.place.chmod(0o2775)
        return self

    def add(self, person: int, umask: int, script: str, *more: str) -> None:
        own = {"00": ["--demo-size", "16"], "07": [], "08": [], "09": []}.get(script[:2], ["--workers", "1"])
        self.orders.append({"person": person, "umask": umask, "command": [
            script, "lungs", "--demo", "--data-dir", str(self.place), "--out-dir", str(self.place), *own, *more]})

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.place)): path.read_bytes() for path in self.place.rglob("*")
                if path.is_file() and not any(part in str(path) for part in UNCOMPARED)}


def work(office: Path, *days: Day) -> list[dict[str, Any]]:
    """The answers to all orders."""
    orders, answers = office / "orders.json", office / "answers.json"
    orders.write_text(json.dumps([order for day in days for order in day.orders]))
    done = run_script(ROOT / "tests/people.py", orders, answers, RADSTACK_COMPETITIONS=str(office / "mine"),
                      OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    return json.loads(answers.read_text())


@pytest.fixture(scope="module")
def week(office):
    """Root alone; Ada and Ben who share; Ben after an Ada who lets others read, and after one who shares nothing."""
    alone, shared, read, shut = (Day(office, name).open() for name in ("alone", "shared", "read", "shut"))
    for stage in STAGES:
        alone.add(0, SHARED, stage)
    alone.add(0, SHARED, *VARIANT, "--dry-run")
    for person, stages in ((ADA, STAGES[:5]), (BEN, STAGES), (ADA, STAGES)):
        for stage in stages:
            shared.add(person, SHARED, stage)
    shared.add(BEN, SHARED, *AGAIN)
    for day, umask, first, then in ((read, USUAL, STAGES[:5], STAGES[1:6]), (shut, PRIVATE, STAGES[:2], STAGES[1:3])):
        for stage in first:
            day.add(ADA, umask, stage)
        for stage in then:
            day.add(BEN, umask, stage)
    read.add(BEN, USUAL, *AGAIN)
    read.add(BEN, USUAL, *VARIANT)
    answers = iter(work(office, alone, shared, read, shut))
    return {day.name: (day, [next(answers) for _ in day.orders]) for day in (alone, shared, read, shut)}


VARIANT = ("04_train", "--only", "resnet", "--set", "optim.lr=1e-4", "--name", "other")
AGAIN = ("04_train", "--only", "resnet", "--folds", "0", "--force")


def owners(day: Day, pattern: str) -> set[int]:
    return {path.stat().st_uid for path in day.place.glob(pattern)}


@pytest.mark.slow
def test_what_one_made_the_other_keeps_and_goes_on_with(week):
    alone, _ = week["alone"]
    shared, answers = week["shared"]
    assert [one["status"] for one in answers] == [0] * len(answers), answers
    again = answers[5:10] + answers[15:24]
    assert all("making" not in one["said"] and "to make" not in one["said"] for one in again), again
    assert sum(one["said"].count("kept") for one in answers[5:10]) == 11
    assert shared.files() == alone.files() and len(alone.files()) > 70
    assert owners(shared, "cache/*/*") == owners(shared, "weights/*/byobnet/*") == {ADA}
    assert owners(shared, "oof/*/*/*") == owners(shared, "submissions/*/*") == {BEN}


@pytest.mark.slow
def test_of_what_one_made_the_other_makes_a_part_anew(week):
    shared, answers = week["shared"]
    assert "to make train resnet fold 0: --force" in answers[-1]["said"]
    assert owners(shared, "weights/*/resnet/fold0.safetensors") == {BEN}
    assert owners(shared, "weights/*/resnet/fold1.safetensors") == {ADA}


@pytest.mark.slow
def test_modes_are_those_that_the_umask_lets(week):
    for name, mode in (("shared", 0o664), ("read", 0o644), ("shut", 0o600)):
        files = [path for path in week[name][0].place.rglob("*") if path.is_file()]
        assert {path.stat().st_mode & 0o777 for path in files} == {mode}
        assert {path.stat().st_gid for path in files} == {GROUP}


@pytest.mark.slow
def test_who_may_read_alone_predicts_and_is_told_in_one_line_what_he_may_not(week):
    alone, _ = week["alone"]
    read, answers = week["read"]
    assert [one["status"] for one in answers] == [0] * 10 + [1, 1], answers
    assert all("making" not in one["said"] for one in answers[5:9])
    assert owners(read, "oof/*/*/*") == {BEN} and owners(read, "weights/*/*/*") == {ADA}
    assert read.files() == {name: data for name, data in alone.files().items() if name in read.files()}
    for one in answers[10:]:
        *_, last = one["said"].splitlines()
        assert last.startswith("error: ") and "you may not write into " in last and "Traceback" not in one["said"]
        assert str(read.place / "weights" / "lungs-demo") in last and "point --out-dir at another folder" in last
    assert len(answers[11]["said"].splitlines()) == 1


@pytest.mark.slow
def test_who_may_not_even_read_is_told_whom_to_ask(week):
    shut, answers = week["shut"]
    assert [one["status"] for one in answers] == [0, 0, 1, 1], answers
    for one in answers[2:]:
        assert one["said"].startswith(f"error: cannot read {shut.place}/") and one["said"].count("\n") == 1
        assert "ask the owner of " in one["said"] and one["said"].endswith("(chmod a+rx)\n")
    assert owners(shut, "**/*") == {ADA}


# -- files and locks, one at a time ----------------------------------------------------------------------------------


def as_person(person: int, task: Any, *arguments: Any) -> Any:
    """What ``task`` returns, or the text of what it raises, in a process of another person."""
    fork = get_context("fork")
    mine, theirs = fork.Pipe()
    child = fork.Process(target=_answered, args=(person, theirs, task, arguments))
    with watchdog(120):
        child.start()
        theirs.close()
        answer = mine.recv()
        child.join()
    return answer


def _answered(person: int, pipe: Any, task: Any, arguments: tuple[Any, ...]) -> None:
    become(person, USUAL)
    try:
        pipe.send(task(*arguments))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


@pytest.fixture(params=[0o2775, 0o3775], ids=["shared", "sticky"])
def folder(request):
    """A folder of the group; in a sticky one, as ``/tmp`` is, nobody deletes or replaces another's files."""
    with tempfile.TemporaryDirectory() as place:
        os.chown(place, 0, GROUP)
        Path(place).chmod(request.param)
        yield Path(place)


def hold(path: Path, started: Any, end: Any) -> None:
    become(ADA, USUAL)
    with working_on(path):
        started.set()
        end.wait()


def take(path: Path, end: Any = None) -> tuple[bool, list[str]]:
    """Whether it was waited for, and what was said."""
    lines: list[str] = []

    def hear(line: str) -> None:
        lines.append(line)
        end.set()

    with saying_to(hear), working_on(path) as waited:
        return waited, lines


def test_one_waits_for_the_other_and_says_for_whom(folder):
    fork = get_context("fork")
    started, end = fork.Event(), fork.Event()
    ada = fork.Process(target=hold, args=(folder / "x", started, end))
    with watchdog(120):
        ada.start()
        started.wait()
        waited, lines = as_person(BEN, take, folder / "x", end)
        ada.join()
    assert waited and f"x: waiting, since process {ada.pid} on " in lines[0]


def test_a_lock_that_the_other_left_keeps_nobody_away(folder):
    as_person(ADA, Path.write_text, folder / ".x.lock", "process 1 on here")
    assert as_person(BEN, take, folder / "x") == as_person(ADA, take, folder / "x") == (False, [])


def test_what_the_other_left_is_swept_or_stays_without_a_word(folder):
    sticky = bool(folder.stat().st_mode & 0o1000)
    as_person(ADA, Path.write_text, folder / ".a.1@elsewhere.part", "half")
    os.utime(folder / ".a.1@elsewhere.part", (1, 1))
    assert as_person(BEN, sweep, folder) is None
    assert (folder / ".a.1@elsewhere.part").exists() == sticky


def test_a_file_of_the_other_is_replaced_or_it_is_said_that_it_cannot_be(folder):
    sticky = bool(folder.stat().st_mode & 0o1000)
    assert as_person(ADA, write_text, folder / "a", "by Ada") is None
    said = as_person(BEN, write_text, folder / "a", "by Ben")
    assert (folder / "a").read_text() == ("by Ada" if sticky else "by Ben")
    assert len(list(folder.iterdir())) == 1
    assert said is None or (said.startswith(f"UserError: cannot write {folder / 'a'}: ") and "\n" not in said)
    assert (said is None) != sticky


def test_pieces_that_the_other_left_stop_nobody(folder):
    parts = folder / "parts"
    as_person(ADA, parts.mkdir)
    os.chown(parts, ADA, GROUP)
    parts.chmod(folder.stat().st_mode & 0o7777)
    as_person(ADA, Path.write_bytes, parts / "old.parquet", b"")
    table = as_person(BEN, mapped_rows, pd.DataFrame, [[1], [2]], parts, 1, "look")
    assert table.to_numpy().tolist() == [[1], [2]]


def test_a_folder_that_one_may_only_read_is_named_where_a_lock_is_wanted(folder):
    folder.chmod(0o755)
    said = as_person(BEN, take, folder / "x")
    assert said.startswith(f"UserError: cannot write {folder / 'x'}: ") and "you may not write into " in said
