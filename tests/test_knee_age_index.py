"""The archive of knees with every defect it may have, and what is done to a volume before a network sees it."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from dicom_files import make_dicom

from competitions import load
from competitions.knee_age.index import COLUMNS, build_index, index_new
from competitions.knee_age.labels import read_labels, sample_file
from competitions.knee_age.volume import (
    BONES,
    Box,
    central,
    crop,
    crop_box,
    cut_masks,
    decode_mask,
    joint_center,
    n4,
    normalize,
    read_masks,
)
from radstack.core.errors import UserError
from radstack.images.dicom import Unreadable
from radstack.images.quarantine import QUARANTINE_COLUMNS
from radstack.images.volumes import read_volume
from radstack.running.cli import make_context
from radstack.running.context import Options

HEAD = "subject,visit,file,source,sex,age_years"
DIRECTION = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)
"""Of a coronal volume in the x, y, z order of SimpleITK: to the left, to the feet, to the back."""
JOPP, EPI = "data/Jopp_Study/MHD", "data/Epi_Study/MHD"


def write(path: Path, pixels: np.ndarray, spacing=(0.5, 0.5, 4.0), origin=(0, 0, 0), direction=DIRECTION) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(pixels)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


def knee(slices: int = 24, seed: int = 0, side: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1000, (slices, side, side)).astype(np.int16)


def mask(slices: int = 24, side: int = 8) -> np.ndarray:
    """Femur 50 above, tibia 100 below, fibula 150 beside it in the back."""
    labels = np.zeros((slices, side, side), np.int16)
    labels[3:-2, :3], labels[3:-2, 5:], labels[-6:-2, 6:, -2:] = 50, 100, 150
    return labels


def tables(folder: Path, rows: list[str], test: tuple[str, ...] = ("C,1",)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "volumes.csv").write_text("\n".join([HEAD, *rows]) + "\n")
    (folder / "sample_submission.csv").write_text("\n".join(["subject,visit,age_years", *(f"{row},17" for row in test), ""]))


ROWS = [f"A,1,{JOPP}/a1_ORIG.mhd,jopp,M,16.5", f"A,2,{JOPP}/a2_ORIG.mhd,jopp,M,17.5",
        f"B,1,{EPI}/b1_ORIG.mhd,Epi,male,18.25", f"C,1,{EPI}/c1_ORIG.mhd,epi,M,"]  # fmt: skip


def archive(folder: Path, rows: list[str] = ROWS, test: tuple[str, ...] = ("C,1",)) -> Path:
    """Two visits of A (one with a mask), one of B, a test volume of C."""
    tables(folder, rows, test)
    for number, (name, slices) in enumerate({f"{JOPP}/a1": 24, f"{JOPP}/a2": 20, f"{EPI}/b1": 41, f"{EPI}/c1": 41}.items()):
        write(folder / f"{name}_ORIG.mhd", knee(slices, number))
    write(folder / "data/Jopp_Study/VOI_LABEL/a1_LABEL.mhd", mask())
    return folder


def build(folder: Path, lines: list[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    report = (lambda line: None) if lines is None else lines.append
    index, quarantine = build_index(folder, 1, folder.parent / "parts", report)
    assert list(index.columns) == COLUMNS and index["id"].is_unique
    assert list(quarantine.columns) == QUARANTINE_COLUMNS and (quarantine["detail"] != "").all()
    return index, quarantine


def reasons(quarantine: pd.DataFrame) -> dict[str, str]:
    return dict(zip(quarantine["split"] + ":" + quarantine["id"], quarantine["reason"]))


# -- the archive -----------------------------------------------------------------------------------------------------


def test_a_whole_archive_has_a_row_a_slice(tmp_path):
    lines: list[str] = []
    index, quarantine = build(archive(tmp_path / "input"), lines)
    assert quarantine.empty and len(index) == 24 + 20 + 41 + 41
    assert index["series"].unique().tolist() == ["A_1", "A_2", "B_1", "C_1"]
    first, last = index.iloc[0].to_dict(), index.iloc[-1].to_dict()
    assert first == {"id": "A_1_00", "split": "train", "group": "A", "series": "A_1", "position": 0,
                     "path": f"{JOPP}/a1_ORIG.mhd", "mask": "data/Jopp_Study/VOI_LABEL/a1_LABEL.mhd", "age_years": 16.5,
                     "visit": 1, "source": "jopp", "slices": 24, "height": 8, "width": 8, "spacing_row": 0.5,
                     "spacing_column": 0.5, "spacing_slice": 4.0, "z": 0.0}  # fmt: skip
    assert last["id"] == "C_1_40" and last["split"] == "test" and np.isnan(last["age_years"]) and last["mask"] == ""
    assert (index.groupby("series")["position"].max() + 1).to_dict() == {"A_1": 24, "A_2": 20, "B_1": 41, "C_1": 41}
    assert lines == ["epi: 2 volumes, 0 with masks, of 41 slices", "jopp: 2 volumes, 1 with masks, of 20 or 24 slices"]
    index.to_parquet(tmp_path / "index.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "index.parquet"), index)


def test_workers_do_not_matter_and_what_is_read_is_kept(tmp_path):
    folder = archive(tmp_path / "input")
    index, _ = build(folder)
    parts = sorted((tmp_path / "parts").rglob("*.parquet"))
    pd.testing.assert_frame_equal(build_index(folder, 2, tmp_path / "other")[0], index)
    build(folder)
    assert sorted((tmp_path / "parts").rglob("*.parquet")) == parts
    raw = folder / JOPP / "a1_ORIG.raw"
    raw.write_bytes(raw.read_bytes()[:-9])
    assert reasons(build(folder)[1]) == {"train:A_1": "truncated"}


def test_a_volume_with_a_flipped_axis_and_its_mask_come_out_the_same(tmp_path):
    folder = archive(tmp_path / "input")
    path, labels = folder / JOPP / "a1_ORIG.mhd", folder / "data/Jopp_Study/VOI_LABEL/a1_LABEL.mhd"
    before = build(folder)[0]
    straight, masks = read_volume(path), read_masks(labels, read_volume(path))
    flipped = DIRECTION * [1, 1, -1]
    write(path, knee()[::-1].copy(), origin=(0, 23 * 4.0, 0), direction=flipped)
    write(labels, mask()[::-1].copy(), origin=(0, 23 * 4.0, 0), direction=flipped)
    index, quarantine = build(folder)
    assert quarantine.empty
    pd.testing.assert_frame_equal(index, before)
    np.testing.assert_array_equal(read_volume(path).pixels, straight.pixels)
    np.testing.assert_array_equal(read_masks(labels, read_volume(path)), masks)


# -- rows that are not usable ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("row, reason", [
    (f"D,1,{JOPP}/a1_ORIG.mhd,jopp,M,16.5", "duplicate-file"), (f"D,1,{JOPP}/d.mhd,jopp,M,16.5", "no-file"),
    ("D,1,,jopp,M,16.5", "no-file"), ("D,1,d.mhd,jopp,F,16.5", "female"), ("D,1,d.mhd,jopp,Female,16.5", "female"),
    ("D,1,d.mhd,jopp,,16.5", "unknown-sex"), ("D,1,d.mhd,jopp,x,16.5", "unknown-sex"), ("D,1,d.mhd,jopp,M,", "no-age"),
    ("D,1,d.mhd,jopp,M,old", "no-age"), ("D,1,d.mhd,jopp,M,inf", "no-age"), ("D,1,d.mhd,jopp,M,9.99", "age-out-of-range"),
    ("D,1,d.mhd,jopp,M,30.01", "age-out-of-range"), ("D,1,d.mhd,jopp,M,210", "age-out-of-range"),
    ("D,first,d.mhd,jopp,M,16", "bad-visit"), (",1,d.mhd,jopp,M,16", "no-subject"),
])  # fmt: skip
def test_a_row_that_is_not_usable_is_quarantined(tmp_path, row, reason):
    folder = archive(tmp_path / "input", [*ROWS, row])
    if row.split(",")[2] == "d.mhd":
        write(folder / "d.mhd", knee(seed=9))
    index, quarantine = build(folder)
    subject, visit = row.split(",")[:2]
    assert reasons(quarantine)[f"train:{subject}_{visit}"] == reason and "D_1" not in set(index["series"])
    assert set(index["series"]) == {"A_1", "A_2", "B_1", "C_1"} - ({"A_1"} if reason == "duplicate-file" else set())


def test_ages_at_the_edge_are_usable_and_a_repeated_row_is_dropped(tmp_path):
    again = ROWS[2].replace("Epi,male,18.25", "epi,M,18.250")  # in other words
    rows = [ROWS[0].replace("16.5", "10"), ROWS[1].replace("17.5", "30"), *ROWS[2:], ROWS[2], again]
    lines: list[str] = []
    index, quarantine = build(archive(tmp_path / "input", rows), lines)
    assert quarantine.empty and lines[0] == "rows of volumes.csv that repeat another, dropped: 2"
    assert index.drop_duplicates("series")["age_years"].tolist()[:3] == [10, 30, 18.25]


def test_without_a_column_of_sexes_all_are_taken_for_men(tmp_path):
    folder = archive(tmp_path / "input")
    rows = pd.read_csv(folder / "volumes.csv", dtype="str", keep_default_na=False)
    rows[["subject", "visit", "file", "age_years", "source"]].to_csv(folder / "volumes.csv", index=False)
    lines: list[str] = []
    index, quarantine = build(folder, lines)
    assert quarantine.empty and set(index["series"]) == {"A_1", "A_2", "B_1", "C_1"}
    assert lines[0] == "volumes.csv has no column sex: all are taken for men"


def test_two_ages_of_one_visit_are_both_quarantined(tmp_path):
    folder = archive(tmp_path / "input", [*ROWS, ROWS[0].replace("16.5", "15.5")])
    assert build(folder)[1][["id", "reason"]].to_numpy().tolist() == [["A_1", "duplicate-visit"]] * 2


def test_the_sample_decides_what_is_test_and_an_age_there_is_left_out(tmp_path):
    folder = archive(tmp_path / "input", test=("B,1", "C,1", "E,1"))
    index, quarantine = build(folder)
    assert reasons(quarantine) == {"test:E_1": "no-file"}
    assert set(index.loc[index["split"] == "test", "series"]) == {"B_1", "C_1"}
    assert index.loc[index["split"] == "test", "age_years"].isna().all()
    sample_file(folder).unlink()
    lines: list[str] = []
    assert reasons(build(folder, lines)[1]) == {"train:C_1": "no-age"}
    assert "no usable test volume" in lines[0]
    with pytest.raises(UserError, match="write one with the columns subject,visit,age_years"):
        sample_file(folder)


# -- volumes that are not usable -------------------------------------------------------------------------------------


def spoil(folder: Path, defect: str) -> None:
    """Give the volume A_1 a defect."""
    path = folder / JOPP / "a1_ORIG.mhd"
    nan = knee().astype(np.float32)
    nan[3, 4, 5] = np.nan
    made = {"nan-voxels": (nan, {}), "flat": (np.full_like(knee(), 7), {}), "slice-count": (knee(18), {}),
            "not-coronal": (knee(), {"direction": DIRECTION[:, [2, 1, 0]]})}  # fmt: skip
    if defect in made:
        write(path, made[defect][0], **made[defect][1])
    elif defect == "truncated":
        path.with_suffix(".raw").write_bytes(b"123")
    elif defect == "bad-header":
        path.write_text("no header\n")


@pytest.mark.parametrize("defect", ["nan-voxels", "flat", "slice-count", "not-coronal", "truncated", "bad-header"])
def test_a_volume_that_is_not_usable_is_quarantined(tmp_path, defect):
    folder = archive(tmp_path / "input")
    spoil(folder, defect)
    index, quarantine = build(folder)
    assert reasons(quarantine) == {"train:A_1": defect} and quarantine["path"].tolist() == [f"{JOPP}/a1_ORIG.mhd"]
    assert set(index["series"]) == {"A_2", "B_1", "C_1"}


def test_a_copy_of_a_test_volume_is_not_trained_on(tmp_path):
    folder = archive(tmp_path / "input")
    for end in (".mhd", ".raw"):
        shutil.copy(folder / EPI / f"c1_ORIG{end}", folder / EPI / f"b2_ORIG{end}")
    header = folder / EPI / "b2_ORIG.mhd"
    header.write_text(header.read_text().replace("c1_ORIG", "b2_ORIG"))
    tables(folder, [*ROWS, f"B,2,{EPI}/b2_ORIG.mhd,epi,M,19"])
    index, quarantine = build(folder)
    assert reasons(quarantine) == {"train:B_2": "duplicate-volume"} and "C_1" in set(index["series"])


@pytest.mark.parametrize("made, reason", [
    ({"pixels": mask(), "spacing": (0.5, 0.5, 4.5)}, "mask-geometry"), ({"pixels": mask(20)}, "mask-geometry"),
    ({"pixels": mask(), "origin": (0, 8.0, 0)}, "mask-geometry"),
    ({"pixels": mask(), "direction": DIRECTION * [1, 1, -1]}, "mask-geometry"),
    ({"pixels": np.minimum(mask(), 100)}, "mask-labels"), ({"pixels": mask() * 0}, "mask-labels"),
])  # fmt: skip
def test_a_faulty_mask_costs_the_mask_and_not_the_volume(tmp_path, made, reason):
    folder = archive(tmp_path / "input")
    write(folder / "data/Jopp_Study/VOI_LABEL/a1_LABEL.mhd", **made)
    index, quarantine = build(folder)
    assert reasons(quarantine) == {"train:A_1": reason}
    assert quarantine["path"].tolist() == ["data/Jopp_Study/VOI_LABEL/a1_LABEL.mhd"]
    assert (index["mask"] == "").all() and "A_1" in set(index["series"])


def test_dicom_folders_are_volumes_and_their_defects_are_named(tmp_path):
    rows = [*ROWS, "D,1,dicom/good,other,M,16", "D,2,dicom/gap,other,M,17", "D,3,dicom/echoes,other,M,18"]
    folder = archive(tmp_path / "input", rows)
    for name, echoes in (("good", 1), ("gap", 1), ("echoes", 2)):
        for number in range(22 * echoes):
            if (name, number) != ("gap", 9):
                make_dicom(folder / "dicom" / name / f"{number}.dcm", knee(1, number)[0],
                           ImagePositionPatient=[0, 4 * (number // echoes), 0], PixelSpacing=[0.4, 0.3],
                           ImageOrientationPatient=[1, 0, 0, 0, 0, -1], EchoNumbers=number % echoes + 1)  # fmt: skip
    index, quarantine = build(folder)
    assert reasons(quarantine) == {"train:D_2": "missing-slice", "train:D_3": "two-echoes"}
    row = index[index["series"] == "D_1"].iloc[0]
    assert row[["path", "source", "slices"]].tolist() == ["dicom/good", "other", 22]
    assert row[["spacing_slice", "spacing_row", "spacing_column"]].tolist() == [4, 0.4, 0.3]


# -- damaged tables, and names in place of a table -------------------------------------------------------------------


@pytest.mark.parametrize("text, message", [
    ("subject,visit,file\nA,1,a\n", "has no column source, age_years; it needs subject,visit,file"),
    ("", "is not a CSV file"), (HEAD + "\nA,1,a,b,c,d,e,f\nB,1\n", "no usable volume|is not a CSV file"),
    (HEAD + "\n", "no usable volume below"), (HEAD + "\nA,1,absent.mhd,jopp,M,16\n", "no-file"),
])  # fmt: skip
def test_a_damaged_table_is_refused(tmp_path, text, message):
    folder = archive(tmp_path / "input")
    (folder / "volumes.csv").write_text(text)
    sample_file(folder).unlink()
    with pytest.raises(UserError, match=message):
        build(folder)


def test_without_a_table_ages_and_persons_are_read_from_the_names(tmp_path):
    names = ["JO_007_b_17_06_ORIG", "JO_007_a_16_00_ORIG", "JO_008_a_20_11_ORIG"]
    for number, name in enumerate(names):
        write(tmp_path / "input" / JOPP / f"{name}.mhd", knee(seed=number))
    lines: list[str] = []
    index, quarantine = build(tmp_path / "input", lines)
    volumes = index.drop_duplicates("series")
    assert quarantine.empty and "all are taken for men" in lines[0]
    assert volumes["series"].tolist() == ["JO_007_1", "JO_007_2", "JO_008_1"]
    assert volumes["group"].tolist() == ["JO_007", "JO_007", "JO_008"] and set(volumes["source"]) == {"jopp"}
    np.testing.assert_allclose(volumes["age_years"], [16, 17.5, 20 + 11 / 12], atol=1e-4)


@pytest.mark.parametrize("name, message", [("a1_ORIG", "a1_ORIG.mhd: tokens 3 and 4"), (None, "get the data with")])
def test_names_without_an_age_ask_for_a_table(tmp_path, name, message):
    folder = make_context(load("knee_age"), Options(data_dir=str(tmp_path))).paths.input
    if name:
        write(folder / JOPP / f"{name}.mhd", knee())
    with pytest.raises(UserError, match=message):
        read_labels(folder)


# -- crop ------------------------------------------------------------------------------------------------------------


def scan(center: int, frame: int, seed: int = 0) -> np.ndarray:
    """Two bright bones with a dark line between them at row ``center``, plates 1/12 of the frame away, dark ends, noise."""
    rng = np.random.default_rng(seed)
    row = np.arange(frame)
    profile = 300 - 180 * np.exp(-((row - center) / (0.012 * frame)) ** 2 / 2)
    for plate in (center - frame / 12, center + frame / 12):
        profile -= 60 * np.exp(-((row - plate) / (0.01 * frame)) ** 2 / 2)
    profile *= np.clip(np.minimum(row, frame - 1 - row) / (0.1 * frame), 0, 1)
    return (profile[:, None] + rng.normal(0, 40, (24, frame, frame))).astype(np.float32)


@pytest.mark.parametrize("frame", [512, 160])
@pytest.mark.parametrize("share", [0.4, 0.5, 0.58])
def test_the_joint_is_the_dark_line_between_the_bones(frame, share):
    center = round(share * frame)
    pixels = scan(center, frame)
    assert abs(joint_center(pixels) - center) <= 8 * frame / 512
    assert joint_center(pixels * 5) == joint_center(pixels)
    box = crop_box(pixels, "jopp")
    assert box.side == frame // 2 and box.left == frame // 4 and abs(box.top + box.side // 2 - center) <= 8 * frame / 512


def test_the_crop_of_epi_is_fixed_and_no_crop_leaves_the_frame():
    assert crop_box(np.zeros((1, 800, 800), np.float32), "epi") == Box(120, 120, 560)
    assert crop_box(np.zeros((1, 400, 400), np.float32), "epi") == Box(60, 60, 280)
    pixels = np.zeros((2, 512, 512), np.float32)
    pixels[:, :101], pixels[:, 103:] = 1000, 1000
    assert crop_box(pixels, "jopp") == Box(0, 128, 256)
    assert crop_box(pixels[:, ::-1], "other") == Box(256, 128, 256)


@pytest.mark.parametrize("side", [32, 128, 200])
def test_pictures_and_masks_are_cut_alike(side):
    y, x = np.mgrid[:256, :256]
    disc = np.hypot(y - 120, x - 140) < 40
    pixels = np.stack([disc * 100.0] * 3).astype(np.float32)
    picture, box = crop(pixels, "epi", side)
    masks = cut_masks(np.stack([disc, ~disc])[:, None].repeat(3, 1), box, side)
    assert picture.shape == (3, side, side) and picture.dtype == np.float32
    assert masks.shape == (2, 3, side, side) and masks.dtype == bool
    np.testing.assert_array_equal(masks[0], picture >= 50)
    area = np.pi * 40**2 * (side / box.side) ** 2
    assert abs(masks[0, 0].sum() / area - 1) < 0.05 and (masks[0] ^ masks[1]).mean() > 0.99


# -- bias field, normalization ------------------------------------------------------------------------------


def test_n4_takes_off_a_smooth_field():
    z, y, x = np.mgrid[:20, :48, :48] / np.array([20, 48, 48]).reshape(3, 1, 1, 1)
    body, bone = np.hypot(y - 0.5, x - 0.5) < 0.45, np.hypot(y - 0.5, x - 0.5) < 0.3
    true = (40 * body + 60 * bone).astype(np.float32)
    field = np.exp(0.5 * (x - 0.5) + 0.4 * (y - 0.5) ** 2 - 0.3 * (z - 0.5))
    seen = (true * field + np.random.default_rng(0).normal(0, 1, true.shape)).astype(np.float32)
    fixed = n4(seen, (4.0, 1.0, 1.0), shrink=2)
    assert fixed.shape == seen.shape and fixed.dtype == np.float32
    before, after = (pixels[bone].std() / pixels[bone].mean() for pixels in (seen, fixed))
    assert after < before / 3
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)  # as on a machine of more cores
    np.testing.assert_array_equal(n4(seen, (4.0, 1.0, 1.0), shrink=2), fixed)


def test_a_volume_is_normalized_by_itself():
    pixels = knee().astype(np.float32)
    made = normalize(5 * pixels + 300)
    assert made.dtype == np.float32 and abs(made.mean()) < 1e-5 and abs(made.std() - 1) < 1e-5
    np.testing.assert_allclose(made, normalize(pixels), atol=1e-5)
    assert not normalize(np.full((2, 3, 4), 9, np.float32)).any()


# -- slices and masks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count, first", [(24, 4), (41, 12), (20, 2), (26, 5), (19, 1), (22, 3), (32, 8), (33, 8), (48, 15)])
def test_eighteen_central_slices(count, first):
    assert central(count).tolist() == list(range(first, first + 18)) and first + 18 <= count


def test_twenty_and_twenty_six_slices_are_the_padded_and_cut_24():
    padded, shortened = [-1, -1, *range(20), -1, -1], list(range(1, 25))
    assert central(20).tolist() == padded[4:-2] and central(26).tolist() == shortened[4:-2]


@pytest.mark.parametrize("count", [1, 18, 49, 160])
def test_other_protocols_are_refused(count):
    with pytest.raises(Unreadable, match=f"slice-count: {count} slices"):
        central(count)


def test_bones_are_told_by_the_order_of_their_intensities():
    for values in ({50: 50, 100: 100, 150: 150}, {50: 1, 100: 2, 150: 3}):
        labels = sum(((mask() == old) * new for old, new in values.items()), np.zeros(mask().shape))
        femur, tibia, fibula = decode_mask(labels.astype(np.float32))
        assert len(BONES) == 3 and (femur == (mask() == 50)).all() and (tibia == (mask() == 100)).all()
        assert (fibula == (mask() == 150)).all() and fibula.any()


# -- real knees ------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_the_real_knees_are_read_and_refused_for_what_they_are(tmp_path):
    if "RADSTACK_REAL_DATA" not in os.environ:
        pytest.skip("RADSTACK_REAL_DATA is not set")
    folder = archive(tmp_path / "input")
    for path in Path(os.environ["RADSTACK_REAL_DATA"], "knee_sample").iterdir():
        (folder / f"link-{path.name}").symlink_to(path)
    rows = [f"R,{number},{path.name},real,M,17" for number, path in enumerate(sorted(folder.glob("link*")))
            if path.suffix != ".md"]  # fmt: skip
    tables(folder, ROWS + rows)
    found = reasons(build(folder)[1])
    assert sorted(found.values()) == ["not-coronal"] * 3 + ["two-echoes"]


def test_new_volumes_get_their_source_and_name_from_the_table_or_their_folder(tmp_path):
    """By the source a volume is cropped; the folder that is given may lie within that of the table."""
    files = ["Epi_Study/MHD/a.mha", "Other/MHD/b.mha", "Jopp_Study/MHD/c.mha", "d.mha"]
    pixels = np.random.default_rng(0).integers(0, 255, (24, 60, 40), np.uint8)
    for file in files:
        volume = sitk.GetImageFromArray(pixels)
        volume.SetSpacing((0.5, 0.5, 3.0))
        volume.SetDirection((1, 0, 0, 0, 0, 1, 0, -1, 0))
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(volume, str(tmp_path / file))
    given = pd.DataFrame({"subject": ["A", "B", "D", "E"], "visit": "1", "source": ["JOPP", "epi", "", "epi"],
                          "file": ["data/Epi_Study/MHD/a.mha", "data/Other/MHD/b.mha", "x/d.mha", "y/d.mha"]})

    def known(table):
        rows, _ = index_new(tmp_path, 1, tmp_path / "parts", table)
        return rows.drop_duplicates("path").set_index("path")[["series", "source"]].apply(tuple, axis=1).to_dict()

    assert known(pd.DataFrame()) == dict(zip(files, [("a_1", "epi"), ("b_1", ""), ("c_1", "jopp"), ("d_1", "")]))
    assert known(given) == dict(zip(files, [("A_1", "jopp"), ("B_1", "epi"), ("c_1", "jopp"), ("d_1", "")]))
