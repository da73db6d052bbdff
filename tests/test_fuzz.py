"""A few seeded mutants of each kind of file; thousands of them: ``python tests/fuzz/run.py``."""

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

from mutants import HARMLESS, KINDS, SYNTAXES, mutant, sound
from run import Child, judge, other_helper, read

from competitions.ich.index import index_new
from competitions.ich.localizer import HEAD
from radstack.stages.decode import decode

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")


@pytest.fixture(scope="module")
def helpers():
    made = {plugin: other_helper(plugin) for plugin in ("gdcm", "pylibjpeg", "pydicom")}
    yield made
    for one in made.values():
        one.close()


@pytest.mark.parametrize("kind", KINDS)
def test_mutants_are_read_rightly_or_refused_with_a_reason(tmp_path, kind, helpers):
    whole = sound(kind, tmp_path / "sound")
    truth = read(kind, whole)
    (tmp_path / "mutant").mkdir()
    said = [judge(kind, number, tmp_path / "mutant", whole, truth, helpers) for number in range(12)]
    assert not [one for one in said if one["wrong"]]
    if kind in SYNTAXES:
        assert sum(one["how"] in HARMLESS and one["same"] for one in said) == 2  # every tenth, and all of them read


def test_a_mutant_is_the_same_whenever_it_is_made(tmp_path):
    whole = sound("JPEG-LS", tmp_path / "sound")
    first = [mutant("JPEG-LS", number, whole, tmp_path / "a.dcm").path.read_bytes() for number in (3, 4, 5)]
    again = [mutant("JPEG-LS", number, whole, tmp_path / "a.dcm").path.read_bytes() for number in (5, 3)]
    assert [first[2], first[0]] == again and len(set(first)) == 3


def test_a_reader_that_crashes_is_told_and_started_again():
    child = Child(["CSV"])
    assert child.ask("CSV", 0)["wrong"] == ""
    child.process.kill()
    child.process.wait()
    assert child.ask("CSV", 1)["outcome"] == "crash"
    assert child.ask("CSV", 2)["outcome"] in ("read", "user error")
    child.process.kill()
    child.process.communicate()


def test_stages_01_and_02_account_for_every_mutant_of_a_folder(tmp_path):
    folder, names = tmp_path / "slices", []
    folder.mkdir()
    for kind in SYNTAXES:
        whole = sound(kind, tmp_path / "sound" / kind)
        names += [mutant(kind, number, whole, folder / f"{kind} {number}.dcm").path.name for number in range(1, 5)]
    index, quarantine = index_new(folder, 1, tmp_path / "parts", pd.DataFrame())
    assert sorted([*index["path"], *quarantine["path"]]) == sorted(names)
    facts = decode(folder, HEAD.read, HEAD.look, [[path, ""] for path in index["path"]])
    assert len(facts) == len(index) and set(facts["reason"]) <= {"", "undecodable", "wrong-size", "truncated", "not-gray"}
