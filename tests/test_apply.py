"""Inputs of all kinds to ``apply``, on networks that were saved and never trained: what matters is which file ends where."""

import copy
import dataclasses
import json
import stat
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from scripts import run_script

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from competitions import load
from phantoms.ich import draw
from radstack.commands.apply import Wish, run_apply
from radstack.core.errors import UserError
from radstack.core.files import stamp
from radstack.core.lock import alone
from radstack.core.recipe import change
from radstack.core.unpack import unpack
from radstack.images.strangers import strangers
from radstack.nets.backbones import build
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.running.device import works
from radstack.stack.method import Fitted
from radstack.stack.registry import method_of
from radstack.stack.store import write_fitted
from radstack.stages import deadline
from radstack.stages.apply import parts_of
from radstack.stages.deadline import Plan, Rate, cut_plan, left_out
from radstack.stages.train import write_weights

SIDE, FOLDS = 32, (0, 1)
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # of the archive, and of these tests


def tiny_solution(home: Path):
    """``ich`` with one network of two folds and a mean of it."""
    whole = load("ich", demo=True)
    network = change(whole.recipe("resnet"), view__side=SIDE, folds=FOLDS, train__precision="fp32")
    mean = change(whole.recipe("mean"), name="final", members=("resnet",))
    competition = change(whole, models__experiments=(network,), models__on_call=(), models__sequences=(),
                         models__stackers=(mean,), cache__size=(SIDE, SIDE))
    return make_context(competition, Options(data_dir=str(home), out_dir=str(home), device="cpu", workers=1))


@pytest.fixture(scope="module")
def solution(tmp_path_factory):
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("solution")
    context = tiny_solution(home)
    network, mean = context.competition.recipe("resnet"), context.competition.recipe("final")
    for fold in FOLDS:
        torch.manual_seed(fold)
        net = build(network.backbone, 6, len(network.view.mean))
        write_weights(home / f"weights/ich-demo/resnet/fold{fold}.safetensors", net.state_dict())
        write_fitted(home / "weights/ich-demo/final", fold, Fitted(method_of(mean), None, {}))
    return context


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """The slices of three patients as datasets, series by series in order."""
    place = tmp_path_factory.mktemp("drawn")
    draw(place, series=4, workers=1, progress=lambda *_, **__: None, size=64)
    found = {}
    for path in sorted((place / "stage_2_train").rglob("*.dcm")):
        one = pydicom.dcmread(path, force=True)
        if one.get("SeriesInstanceUID") and len(one.get("PixelData", b"")) == 2 * 64 * 64:
            found.setdefault(one.SeriesInstanceUID, []).append(one)
    return [cleaned(series[:9], number) for number, series in enumerate(found.values())][:3]


def cleaned(series, number):
    """Without the defects that are drawn: each is put into a test of its own."""
    series.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    for place, one in enumerate(series):
        one.PatientID, one.StudyInstanceUID, one.SeriesInstanceUID = f"ID_p{number}", f"ID_s{number}", f"ID_r{number}"
        one.SOPInstanceUID = f"ID_{number}{place}"
        one.ImagePositionPatient, one.ImageOrientationPatient = [-125, -125, 10.0 + 5 * place], [1, 0, 0, 0, 1, 0]
    return series


def put(one, path: Path, **changes) -> str:
    """Write a slice, changed, as a file; its SOPInstanceUID."""
    changed = copy.deepcopy(one)
    for name, value in changes.items():
        setattr(changed, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, changed, enforce_file_format=True)
    return str(changed.SOPInstanceUID)


def answer(solution, folder: Path, out: Path, **wishes):
    """Answers by id, and the quarantine."""
    run_apply(solution, Wish(folder, out, **wishes))
    return wide(out), pd.read_csv(out.with_name(f"{out.stem}_quarantine.csv"), keep_default_na=False)


def wide(out: Path) -> pd.DataFrame:
    table = pd.read_csv(out)
    assert list(table) == ["ID", "Label"] and table["Label"].between(0, 1).all()
    table[["id", "target"]] = table["ID"].str.rsplit("_", n=1, expand=True)
    return table.pivot(index="id", columns="target", values="Label")


def behind(folder: Path, answers, quarantine) -> None:
    """Each file is behind a row or in the quarantine, and in one of them."""
    listed = set(quarantine["path"])
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in listed:
            assert pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID in answers.index, name


@pytest.fixture(scope="module")
def inbox(slices, tmp_path_factory):
    """Three patients in one folder: names with blanks and umlauts, a scout each, localizers, a second reconstruction."""
    folder = tmp_path_factory.mktemp("in") / "Röntgen Ä"
    for number, series in enumerate(slices):
        for place, one in enumerate(series):
            put(one, folder / f"Müller {number}" / f"Bild {len(series) - place} ß")
        put(series[0], folder / f"scout {number}.dcm", SOPInstanceUID=f"1.{number}", SeriesInstanceUID=f"1.1.{number}",
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    for place, one in enumerate(slices[0]):
        put(one, folder / "again" / f"{place}.dcm", SOPInstanceUID=f"2.{place}", SeriesInstanceUID="2.1")
    (folder / "Müller 0" / "Bericht.pdf").write_bytes(b"%PDF-1.7 nothing to see")
    (folder / "leer").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """What was made on the way to ``answered``: whoever asks again gets the same in no time."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def answered(solution, inbox, work, tmp_path_factory):
    return answer(solution, inbox, tmp_path_factory.mktemp("out") / "out.csv", work=work)


# -- what lies in a folder --------------------------------------------------------------------------------------------


def test_three_patients_with_scouts_and_two_reconstructions_in_one_folder(answered, inbox, slices):
    answers, quarantine = answered
    assert len(slices) == 3
    assert set(answers.index) == {one.SOPInstanceUID for series in slices for one in series} | {f"2.{n}" for n in range(9)}
    assert sorted(quarantine["reason"]) == ["empty"] + ["not-axial"] * 3 + ["not-dicom"]
    behind(inbox, answers, quarantine)
    again = [answers.loc[f"2.{place}"].to_numpy() for place in range(9)]
    first = [answers.loc[one.SOPInstanceUID].to_numpy() for one in slices[0]]
    np.testing.assert_allclose(again, first, atol=1e-6)  # the same pixels, whatever the series is called
    assert answers.to_numpy().std() > 1e-4


def test_a_single_slice_and_a_series_with_gaps_in_mixed_order(solution, answered, slices, tmp_path):
    one = slices[1][4]
    name = put(one, tmp_path / "one" / "x")
    answers, quarantine = answer(solution, tmp_path / "one", tmp_path / "one.csv")
    assert answers.index.tolist() == [name] and quarantine.empty
    kept = [slices[1][place] for place in (8, 0, 5, 2)]
    for number, each in enumerate(kept):
        put(each, tmp_path / "gaps" / f"{number}.dcm", InstanceNumber=99 - number)
    answers, quarantine = answer(solution, tmp_path / "gaps", tmp_path / "gaps.csv", work=tmp_path / "work")
    assert set(answers.index) == {each.SOPInstanceUID for each in kept} and quarantine.empty
    index = pd.read_parquet(tmp_path / "work/folds/ich-demo/index.parquet")
    assert index["id"].tolist() == [slices[1][place].SOPInstanceUID for place in (0, 2, 5, 8)]


def test_a_tilted_gantry_is_answered_in_order(solution, slices, tmp_path):
    cos, sin = np.cos(np.radians(20)), np.sin(np.radians(20))
    for place, one in enumerate(slices[0]):
        x, y, z = map(float, one.ImagePositionPatient)
        put(one, tmp_path / "in" / f"{9 - place}", ImageOrientationPatient=[1, 0, 0, 0, float(cos), float(-sin)],
            ImagePositionPatient=[x, y, z])
    answers, quarantine = answer(solution, tmp_path / "in", tmp_path / "out.csv", work=tmp_path / "work")
    assert len(answers) == 9 and quarantine.empty
    index = pd.read_parquet(tmp_path / "work/folds/ich-demo/index.parquet")
    assert index["id"].tolist() == [one.SOPInstanceUID for one in slices[0]] and set(index["order_flag"]) == {""}


def test_series_without_a_patient_stay_series(solution, slices, tmp_path):
    for number, series in enumerate(slices[:2]):
        for place, one in enumerate(series[:4]):
            put(one, tmp_path / "in" / f"{number}-{place}", PatientID="", StudyInstanceUID="" if number else "1.5")
    answers, quarantine = answer(solution, tmp_path / "in", tmp_path / "out.csv", work=tmp_path / "work")
    index = pd.read_parquet(tmp_path / "work/folds/ich-demo/index.parquet")
    assert len(answers) == 8 and quarantine.empty
    assert index.groupby("series").size().tolist() == [4, 4] and index["group"].nunique() == 2


def test_with_a_sample_every_id_has_a_row_and_a_file_that_it_does_not_name_is_told(solution, slices, tmp_path):
    ids = [put(one, tmp_path / "in" / f"{place}") for place, one in enumerate(slices[0][:4])]
    (tmp_path / "in" / "cut").write_bytes((tmp_path / "in" / "3").read_bytes()[:-400])
    targets = solution.competition.targets
    listed = [*ids[:3], "ID_nowhere"]
    pd.DataFrame({"ID": [f"{one}_{target}" for one in listed for target in targets], "Label": 0.5}).to_csv(
        tmp_path / "sample.csv", index=False)
    answers, quarantine = answer(solution, tmp_path / "in", tmp_path / "out.csv", sample=tmp_path / "sample.csv")
    assert set(answers.index) == set(listed)
    assert (answers.loc["ID_nowhere"] == answers.min()).all()  # the prior of a long submission
    told = quarantine.groupby("reason")["path"].apply(list).to_dict()
    assert told["not-in-sample"] == ["3"] and len(told["no-picture"]) == 6
    assert {path for paths in told.values() for path in paths} >= {"3", "cut"}


@pytest.fixture
def trained(solution):
    """The solution where it also knows its training labels, and their priors by Laplace's rule."""
    index = solution.paths.folds / "index.parquet"
    index.parent.mkdir(parents=True, exist_ok=True)
    targets, shares = solution.competition.targets, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    labels = {name: [1.0] * round(10 * p) + [0.0] * round(10 - 10 * p) for name, p in zip(targets, shares)}
    pd.DataFrame({"id": [f"t{place}" for place in range(10)], "split": "train", **labels}).to_parquet(index)
    yield solution, {name: (10 * p + 1) / 12 for name, p in zip(targets, shares)}
    index.unlink()


def listed(targets, ids, file):
    pd.DataFrame({"ID": [f"{one}_{target}" for one in ids for target in targets], "Label": 0.5}).to_csv(file, index=False)
    return file


def unreadable(one):
    """Pixels that are said to be compressed, and are not."""
    spoiled = copy.deepcopy(one)
    spoiled.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    spoiled.PixelData = pydicom.encaps.encapsulate([b"no codestream"])
    spoiled["PixelData"].VR, spoiled["PixelData"].is_undefined_length = "OB", True
    return spoiled


@pytest.mark.parametrize(("what", "reasons"), [
    ("nothing", {"no-picture": 12}), ("notes", {"not-dicom": 1, "no-picture": 12}),
    ("unreadable", {"undecodable": 2, "no-picture": 12}), ("a part", {"undecodable": 2, "no-picture": 12})])
@pytest.mark.parametrize("report", [False, True])
def test_a_list_is_answered_whole_whatever_the_folder_holds(trained, slices, tmp_path, what, reasons, report):
    context, prior = trained
    folder, ids = tmp_path / "in", ["ID_00", "ID_01"]
    folder.mkdir()
    if what == "notes":
        (folder / "notes.txt").write_text("no picture")
    if what in ("unreadable", "a part"):
        for one in slices[0][:2]:
            put(unreadable(one), folder / one.SOPInstanceUID)
    seen = [put(one, folder / one.SOPInstanceUID) for one in slices[1][:2]] if what == "a part" else []
    sample = listed(prior, [*ids, *seen], tmp_path / "sample.csv")
    answers, quarantine = answer(context, folder, tmp_path / "out.csv", sample=sample, part=2, report=report)
    assert set(answers.index) == {*ids, *seen}
    for one in ids:
        assert answers.loc[one].to_dict() == pytest.approx(prior)
    found = quarantine["reason"].value_counts().to_dict()
    assert found.pop("no-picture") == reasons["no-picture"] and sum(found.values()) == sum(reasons.values()) - 12, found
    if report:
        page = (tmp_path / "out_report.html").read_text("utf-8")
        assert "12 rows of the list have no usable picture and got the prior" in page
        assert ("No picture was answered" in page) == (not seen)


def test_nothing_usable_is_one_line(solution, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match="no usable slice"):
        answer(solution, tmp_path / "in", tmp_path / "out.csv")
    for wish, words in ((Wish(tmp_path / "nowhere", tmp_path / "o.csv"), "no folder and no zip"),
                        (Wish(tmp_path / "in", tmp_path / "o.txt"), "does not end in .csv"),
                        (Wish(tmp_path / "in", tmp_path / "o.csv", labels=tmp_path / "l.csv"), "l.csv is missing")):
        with pytest.raises(UserError, match=words):
            run_apply(solution, wish)


def test_files_of_other_kinds_are_in_the_quarantine_of_the_other_competitions(tmp_path):
    for name, start in (("a.png", b"\x89PNG\r\n\x1a\n"), ("b.bin", b"\x89PNG\r\n\x1a\n"), ("c.txt", b"words"),
                        ("d.mhd", b"N"), ("d.raw", b"\0\1"), ("e.raw", b"\0\1"), ("v1.2/f.raw", b"\0"),
                        ("v1.2/g.mhd", b"N"), ("knee/1.dcm", b"\0" * 128 + b"DICM"),
                        ("knee/2", b"\0" * 128 + b"DICM"), ("knee/plan.doc", b"doc"), ("sub/f", b"")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(start)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    rows, bad = pd.DataFrame({"path": ["a.png", "knee"]}), pd.DataFrame({"path": ["d.mhd", "v1.2/g.mhd"]})
    found = strangers(tmp_path, rows, bad).set_index("path")["reason"].to_dict()
    assert found == {"b.bin": "not-read", "c.txt": "not-a-picture", "e.raw": "not-a-picture", "v1.2/f.raw": "not-a-picture",
                     "knee/plan.doc": "not-a-picture", "sub/f": "not-a-picture"}


@pytest.mark.parametrize(("name", "picture"), [("bone_age", "hand.png"), ("radius_ulna", "arm.jpg"),
                                               ("knee_age", "knee.mha")])
def test_the_index_of_any_folder_leaves_no_file_out(name, picture, tmp_path):
    import cv2
    import SimpleITK as sitk

    folder = tmp_path / "in"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (60, 40), np.uint8)
    if picture.endswith(".mha"):
        volume = sitk.GetImageFromArray(np.stack([pixels] * 24))
        volume.SetSpacing((0.5, 0.5, 3.0))
        volume.SetDirection((1, 0, 0, 0, 0, 1, 0, -1, 0))
        sitk.WriteImage(volume, str(folder / picture))
    else:
        cv2.imwrite(str(folder / picture), pixels)
    for other in ("notes.txt", "strange.xyz", ".hidden.png", "broken.png", "broken.mha", "broken.jpg"):
        (folder / other).write_bytes(b"no picture")
    (folder / "unnamed").write_bytes((folder / picture).read_bytes())
    beside = {"bone_age": {"id": ["hand"], "male": ["True"]}, "knee_age": {"file": ["x"], "subject": ["s"], "visit": ["1"]}}
    given = pd.DataFrame(beside.get(name, {}))
    rows, quarantine = load(name).data.index_new(folder, 1, tmp_path / "parts", given)
    if name in beside:
        with pytest.raises(UserError, match=f"has fruit; it needs {','.join(beside[name])}"):
            load(name).data.index_new(folder, 1, tmp_path / "parts", pd.DataFrame({"fruit": ["pear"]}))
    lost = pd.concat([quarantine, strangers(folder, rows, quarantine)]).set_index("path")["reason"]
    assert set(rows["path"]) == {picture}
    assert {path.name for path in folder.iterdir()} == {picture, *lost.index} and lost.index.is_unique
    assert lost["notes.txt"] == lost["strange.xyz"] == "not-a-picture"


# -- zip --------------------------------------------------------------------------------------------------------------


def test_a_zip_answers_as_its_folder_and_nothing_lands_outside(solution, answered, inbox, tmp_path):
    packed = tmp_path / "in.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(inbox.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(inbox))
        archive.writestr("../outside.dcm", "x")
        archive.writestr("/etc/outside.dcm", "x")
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    answers, quarantine = answer(solution, packed, tmp_path / "out.csv")
    pd.testing.assert_frame_equal(answers, answered[0])
    refused = quarantine[quarantine["reason"].isin(["unsafe-name", "link"])]["path"].tolist()
    assert refused == ["../outside.dcm", "/etc/outside.dcm", "link"]
    assert not list(tmp_path.rglob("outside*")) and not (tmp_path / "out_work").exists()


def test_a_zip_leaves_nothing_behind_for_the_next_folder_in_the_same_work(solution, slices, tmp_path):
    name = put(slices[0][0], tmp_path / "in" / "slice")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(tmp_path / "in" / "slice", "slice")
        archive.writestr("../slice", "x")
    for source, reasons in ((tmp_path / "in.zip", ["unsafe-name"]), (tmp_path / "in", [])):
        answers, quarantine = answer(solution, source, tmp_path / "out.csv", work=tmp_path / "work")
        assert answers.index.tolist() == [name] and quarantine["reason"].tolist() == reasons


def test_a_zip_that_would_grow_too_large_or_is_none_is_refused(tmp_path, monkeypatch):
    from radstack.core import unpack as module

    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 2_000_000)
    monkeypatch.setattr(module, "FREE_BYTES", 100_000)
    with pytest.raises(UserError, match="would become"):
        unpack(tmp_path / "bomb.zip", tmp_path / "there")
    assert not list((tmp_path / "there").iterdir())
    (tmp_path / "none.zip").write_text("no archive")
    with pytest.raises(UserError, match="no readable zip"):
        unpack(tmp_path / "none.zip", tmp_path / "there")


def test_a_damaged_file_of_a_zip_is_named_and_the_rest_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("good", "good")
        archive.writestr("bad", "spoil me")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("good", "other")
    raw = (tmp_path / "in.zip").read_bytes()
    (tmp_path / "in.zip").write_bytes(raw.replace(b"spoil me", b"spoiled!"))
    refused = unpack(tmp_path / "in.zip", tmp_path / "there")
    assert dict(zip(refused["path"], refused["reason"])) == {"bad": "damaged", "good": "repeated-name"}
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["good"]


# -- parts, kills, devices --------------------------------------------------------------------------------------------


def test_parts_hold_whole_series_and_give_the_same_answers(solution, answered, inbox, tmp_path):
    answers, quarantine = answer(solution, inbox, tmp_path / "out.csv", part=10, work=tmp_path / "work")
    np.testing.assert_allclose(answers, answered[0], atol=1e-5)  # other batches, other last bits
    assert quarantine["reason"].tolist() == answered[1]["reason"].tolist()
    folders = sorted((tmp_path / "work/parts").glob("0*"))
    assert len(folders) > 1
    assert not [path for one in folders for path in one.rglob("*") if path.suffix in (".npy", ".safetensors")]
    parts = parts_of(pd.DataFrame({"series": list("aabbbbbcd")}), 3)
    assert parts.tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from radstack.core.artifact import Artifact
from test_apply import tiny_solution
from radstack.commands.apply import Wish, run_apply
left, record = {after}, Artifact.record

def record_and_die(self, *args, **facts):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    record(self, *args, **facts)

Artifact.record = record_and_die
run_apply(tiny_solution(Path({home!r})), Wish(Path({inbox!r}), Path({out!r}), part=4))
"""


def test_a_killed_run_gives_equal_bytes_when_it_is_run_again(solution, slices, tmp_path):
    """Killed before the manifest of the index, of the first part's networks and of the second part's shards is written."""
    for series in slices[:2]:
        for one in series[:4]:
            put(one, tmp_path / "in" / one.SOPInstanceUID)
    run_apply(solution, Wish(tmp_path / "in", tmp_path / "whole.csv", part=4))
    for after in (1, 6, 12):
        out, script = tmp_path / f"out{after}.csv", tmp_path / f"killed{after}.py"
        here = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "src")]
        script.write_text(KILLED.format(paths=here, after=after, home=str(solution.paths.out), inbox=str(tmp_path / "in"),
                                        out=str(out)))
        killed = run_script(script)
        assert killed.returncode == -9 and not out.exists(), killed.stdout + killed.stderr
        run_apply(solution, Wish(tmp_path / "in", out, part=4))
        for whole in (tmp_path / "whole.csv", tmp_path / "whole_quarantine.csv"):
            assert whole.with_name(whole.name.replace("whole", out.stem)).read_bytes() == whole.read_bytes()


def test_a_device_that_does_not_work_is_the_cpu_in_one_line(solution, slices, answered, tmp_path, capsys, monkeypatch):
    put(slices[0][0], tmp_path / "in" / "0")
    absent = dataclasses.replace(solution, options=dataclasses.replace(solution.options, device="cuda"))

    ones = torch.ones

    def fails(*size, device=None, **how):
        if device == "cuda":
            raise RuntimeError("no kernel image is available for execution on the device")
        return ones(*size, device=device, **how)

    monkeypatch.setattr(torch, "ones", fails)
    works.cache_clear()
    answers, _ = answer(absent, tmp_path / "in", tmp_path / "out.csv")
    works.cache_clear()
    said = capsys.readouterr().out
    assert len(answers) == 1 and "cuda does not work here (RuntimeError: no kernel image" in said


def test_a_second_run_into_the_same_table_or_work_is_refused(solution, inbox, tmp_path):
    for held in (tmp_path / "out.csv", tmp_path / "out_work"):
        with alone(held), pytest.raises(UserError, match=f"another run is writing {held}"):
            run_apply(solution, Wish(inbox, tmp_path / "out.csv"))
    assert not list(tmp_path.iterdir())


def test_a_dry_run_makes_nothing(solution, inbox, tmp_path, capsys):
    dry = dataclasses.replace(solution, options=dataclasses.replace(solution.options, dry_run=True))
    run_apply(dry, Wish(inbox, tmp_path / "out.csv"))
    assert "would make" in capsys.readouterr().out and not list(tmp_path.iterdir())


# -- labels, pseudonyms, a deadline -----------------------------------------------------------------------------------


def test_labels_give_the_score_with_its_interval_and_calibration(solution, answered, inbox, work, tmp_path, capsys):
    answers, targets = answered[0], list(solution.competition.targets)
    truth = pd.DataFrame(np.random.default_rng(0).integers(0, 2, answers.shape), answers.index, answers.columns)
    truth.reset_index().to_csv(tmp_path / "wide.csv", index=False)
    long = truth.stack().rename("Label").reset_index()
    long.assign(ID=long["id"] + "_" + long["target"])[["ID", "Label"]].to_csv(tmp_path / "long.csv", index=False)
    for form in ("wide", "long"):
        answer(solution, inbox, tmp_path / f"{form}.out.csv", labels=tmp_path / f"{form}.csv", work=work)
    scores = pd.read_csv(tmp_path / "wide.out_scores.csv").set_index("model")
    pd.testing.assert_frame_equal(scores, pd.read_csv(tmp_path / "long.out_scores.csv").set_index("model"))
    expected = solution.competition.metric.score(truth[targets].to_numpy(float), answers[targets].to_numpy())
    assert scores.loc["final", "score"] == pytest.approx(expected, abs=1e-5)
    assert scores.loc["final", "low"] < expected < scores.loc["final", "high"]
    assert scores.loc["final", "observed any"] == pytest.approx(truth["any"].mean())
    assert scores.loc["final", "predicted any"] == pytest.approx(answers["any"].mean(), abs=1e-6)
    assert 0 <= scores.loc["final", "ece any"] <= 1 and "labeled answers of 3 patients" in capsys.readouterr().out
    truth.rename("x{}".format).reset_index().to_csv(tmp_path / "others.csv", index=False)
    with pytest.raises(UserError, match="none of them was answered"):
        answer(solution, inbox, tmp_path / "o.csv", labels=tmp_path / "others.csv", work=work)


def test_contradicting_labels_of_a_long_table_are_named_and_equal_ones_are_one(tmp_path):
    from radstack.commands.external import read_labels

    ich, file = load("ich"), tmp_path / "long.csv"
    rows = [f"ID_a_{target},0" for target in ich.targets]
    file.write_text("\n".join(["ID,Label", *rows, "ID_a_any,0.0"]))
    assert read_labels(file, ich)[list(ich.targets)].to_numpy().tolist() == [[0.0] * 6]
    file.write_text("\n".join(["ID,Label", *rows, "ID_a_any,1"]))
    with pytest.raises(UserError, match="long.csv has several labels of ID_a for any, 0 and others; keep one"):
        read_labels(file, ich)


def test_subgroups_and_classes_in_words(tmp_path):
    from radstack.commands.external import _strata, read_labels

    knee = load("knee_age")
    rows = pd.DataFrame({"age_years": [17.0, 19.0], "source": ["a", "b"]})
    assert _strata(knee, rows)["majority"].tolist() == ["minor", "adult"]
    assert _strata(knee, rows.drop(columns="source")) is None
    arms = load("radius_ulna")
    words = {group.name: [group.coarse[0], group.coarse[-1]] for group in arms.metric.groups}
    pd.DataFrame({"id": ["a", "b"], **words}).to_csv(tmp_path / "labels.csv", index=False)
    labels = read_labels(tmp_path / "labels.csv", arms)
    assert labels["id"].tolist() == ["a", "b"]
    assert (labels[list(arms.targets)].sum(axis=1) == len(arms.metric.groups)).all()
    pd.DataFrame({"id": ["a"]}).to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(UserError, match="no column"):
        read_labels(tmp_path / "none.csv", arms)


def test_pseudonyms_leave_no_id_and_their_key_gives_all_back(solution, answered, inbox, slices, work, tmp_path):
    out = tmp_path / "out.csv"
    answers, quarantine = answer(solution, inbox, out, pseudonyms=True, work=work)
    key = tmp_path / "out_key.csv"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    known = pd.read_csv(key, dtype=str, keep_default_na=False)
    names = known[known["kind"] == "id"].set_index("pseudonym")["original"]
    pd.testing.assert_frame_equal(answers.rename(index=names).sort_index(), answered[0], check_names=False)
    written = out.read_text() + (tmp_path / "out_quarantine.csv").read_text()
    secret = {str(one[name].value) for series in slices for one in series
              for name in ("PatientID", "SOPInstanceUID", "SeriesInstanceUID")} | {"Müller", "scout", "Bericht"}
    assert not [name for name in secret if name in written]
    assert set(known["kind"]) == {"secret", "id", "file", "patient"} and len(quarantine) == len(answered[1])
    before = out.read_bytes()
    answer(solution, inbox, out, pseudonyms=True, work=work)
    assert out.read_bytes() == before  # the key file is there: the same names again
    answer(solution, inbox, tmp_path / "other.csv", pseudonyms=True, work=work)
    assert (tmp_path / "other.csv").read_bytes() != before


RATES = {"fast": Rate(0.001, 0.01), "slow": Rate(0.001, 0.03)}
WHOLE = Plan({"fast": 2, "slow": 3}, 5)


@pytest.mark.parametrize(("seconds", "views", "folds"), [
    (1e9, {"fast": 2, "slow": 3}, 5), (50, {"fast": 2, "slow": 2}, 5), (42, {"fast": 2, "slow": 2}, 5),
    (40, {"fast": 2, "slow": 1}, 5), (25, {"fast": 1, "slow": 1}, 5), (10, {"fast": 1, "slow": 1}, 2),
    (0, {"fast": 1, "slow": 1}, 1)])
def test_a_deadline_costs_views_first_then_folds_and_never_the_answer(seconds, views, folds):
    assert WHOLE.seconds(RATES) == pytest.approx(5 * (0.001 + 0.02 + 0.001 + 0.09))
    plan = cut_plan(WHOLE, RATES, 100, seconds)
    assert plan == Plan(views, folds)
    assert bool(left_out(WHOLE, plan)) == (plan != WHOLE)


def test_an_answer_in_no_time_is_whole_and_says_what_was_left_out(solution, inbox, answered, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(deadline, "PROBE", 4)
    answers, _ = answer(solution, inbox, tmp_path / "out.csv", hours=1e-6, work=tmp_path / "work", report=True)
    said = [line for line in capsys.readouterr().out.splitlines() if "deadline" in line]
    assert said == ["  for the deadline left out: 1 of 2 views of resnet, the networks of 1 of 2 folds; even so it may take "
                    "longer"]
    assert set(answers.index) == set(answered[0].index)
    assert json.loads((tmp_path / "work/plan.json").read_text())["plan"] == {"views": {"resnet": 1}, "folds": 1}
    assert np.abs(answers - answered[0]).to_numpy().max() > 1e-6
    words = "For the deadline left out: 1 of 2 views of resnet, the networks of 1 of 2 folds."
    assert words in (tmp_path / "out_report.html").read_text("utf-8")
    answers, _ = answer(solution, inbox, tmp_path / "ample.csv", hours=100, work=tmp_path / "work")
    pd.testing.assert_frame_equal(answers, answered[0])
    assert "deadline" not in capsys.readouterr().out


def test_parts_that_were_cut_for_time_or_seen_otherwise_are_answered_anew(solution, inbox, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(deadline, "PROBE", 4)
    wishes = {"work": tmp_path / "work", "part": 10}
    answer(solution, inbox, tmp_path / "cut.csv", hours=1e-6, **wishes)
    whole, _ = answer(solution, inbox, tmp_path / "whole.csv", **wishes)
    assert "deadline" in capsys.readouterr().out
    alone, _ = answer(solution, inbox, tmp_path / "alone.csv", work=tmp_path / "other", part=10)
    pd.testing.assert_frame_equal(whole, alone)
    fewer = change(solution, competition__models__experiments__resnet__tta=("plain",))
    seen, _ = answer(fewer, inbox, tmp_path / "seen.csv", **wishes)
    assert np.abs(seen - whole).to_numpy().max() > 1e-6


def test_the_script_names_its_options_and_mistakes(tmp_path):
    said = run_script("apply", "--help").stdout
    assert all(flag in said for flag in ("--labels", "--pseudonyms", "--hours", "--sample-submission", "--columns"))
    failed = run_script("apply", "ich", "--demo", str(tmp_path / "none"), str(tmp_path / "out.csv"))
    assert failed.returncode == 1 and "no folder and no zip file" in failed.stderr and "Traceback" not in failed.stderr


def test_the_stamp_of_a_file_is_its_own_whatever_else_is_called_alike(tmp_path):
    """Slices are called by UIDs or without an ending: a change of one must be seen, and only there."""
    for name in ("1.2.840.1", "1.2.840.2", "plain", "knee.mhd", "knee.raw"):
        (tmp_path / name).write_bytes(b"abc")
    before = {path.name: stamp(path) for path in tmp_path.iterdir()}
    for name in ("1.2.840.1", "plain", "knee.raw"):
        (tmp_path / name).write_bytes(b"other")
    changed = {name for name in before if stamp(tmp_path / name) != before[name]}
    assert changed == {"1.2.840.1", "plain", "knee.raw", "knee.mhd"}


# -- the page ---------------------------------------------------------------------------------------------------------


def secrets_of(slices) -> set[str]:
    """Names in the files that no page under pseudonyms may hold."""
    return {str(one[name].value) for series in slices for one in series
            for name in ("PatientID", "StudyInstanceUID", "SOPInstanceUID", "SeriesInstanceUID")} | {
                "Müller", "scout", "Bericht", "Röntgen", "Bild"}


def test_a_page_shows_what_was_found_and_set_aside_and_each_series(solution, inbox, work, slices, tmp_path):
    answer(solution, inbox, tmp_path / "out.csv", report=True, work=work)
    page = (tmp_path / "out_report.html").read_text("utf-8")
    assert page.count('<article class="case"') == 4  # three series, one of them twice
    assert page.count("<canvas role=") == 4 and "Labeled" not in page and "labeled positive" not in page
    assert all(words in page for words in ("not-axial", "Bericht.pdf", "not known here", "disagreement", "highest subdural"))
    assert all(one.SOPInstanceUID in page for series in slices for one in series)


def test_a_page_under_pseudonyms_names_what_the_tables_name(solution, inbox, work, slices, tmp_path):
    answers, quarantine = answer(solution, inbox, tmp_path / "out.csv", report=True, pseudonyms=True, work=work)
    page = (tmp_path / "out_report.html").read_text("utf-8")
    assert not [name for name in secrets_of(slices) | {str(inbox), str(work)} if name in page]
    assert all(name in page for name in [*answers.index, *quarantine["path"]]) and "are pseudonyms" in page
    known = pd.read_csv(tmp_path / "out_key.csv", dtype=str, keep_default_na=False)
    series = known[known["kind"] == "series"]
    assert sorted(series["original"].str.rsplit("-").str[-1]) == ["2.1", "ID_r0", "ID_r1", "ID_r2"]
    assert all(name in page for name in series["pseudonym"])


def test_a_page_of_parts_answers_its_cases_once_more_and_shows_the_score(solution, inbox, answered, tmp_path):
    truth = (answered[0] > answered[0].median()).astype(int)
    truth.reset_index().to_csv(tmp_path / "labels.csv", index=False)
    answer(solution, inbox, tmp_path / "out.csv", report=True, labels=tmp_path / "labels.csv", part=10,
           work=tmp_path / "work")
    page = (tmp_path / "out_report.html").read_text("utf-8")
    assert "For the deadline" not in page
    assert page.count("<canvas role=") == 4 and "Labeled: " in page and '<span class="chip why">worst</span>' in page
    assert "labeled answers" in page and "ROC curves" in page and "Calibration: share" in page
    assert not list((tmp_path / "work/parts").rglob("*.npy"))
