"""Volumes in every file format and orientation come out as the same coronal slices, or are refused by name."""

import itertools
import os
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import compress, make_dicom
from pydicom import uid
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from radstack.images import itk
from radstack.images.dicom import Unreadable
from radstack.images.volumes import Grid, read_header, read_volume, same_geometry

SPACING = (4.0, 0.6, 0.5)
"""Slice, row, column of the knee below, mm."""
ORIGIN = np.array([-30.0, -20.0, 50.0])
AXES = np.array([[0, 1, 0], [0, 0, -1], [1, 0, 0]], float).T
"""Columns: slices to the back, rows to the feet, columns to the left."""
LEVEL = np.eye(3)
TURNS = [(axes, flips) for axes in itertools.permutations(range(3)) for flips in itertools.product((1, -1), repeat=3)]
FORMATS = ["a.mhd", "a.mha", "a.nii", "a.nii.gz", "a.nrrd"]


def knee() -> np.ndarray:
    """A volume all of whose voxels differ: int16 [5, 6, 7]."""
    return np.random.default_rng(0).permutation(5 * 6 * 7).reshape(5, 6, 7).astype(np.int16)


def turned(pixels, axes, flips, tilt=LEVEL):
    """The same anatomy with other axes first and running the other way: array, spacing, origin, direction in array order."""
    steps = tuple(slice(None, None, flip) for flip in flips)
    start = np.where(np.array(flips) < 0, np.array(pixels.shape)[list(axes)] - 1, 0) * np.array(SPACING)[list(axes)]
    direction = tilt @ AXES[:, axes]
    return pixels.transpose(axes)[steps], np.array(SPACING)[list(axes)], ORIGIN + direction @ start, direction * flips


def write(path, pixels, spacing=SPACING, origin=ORIGIN, direction=AXES, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels))
    image.SetSpacing(list(map(float, spacing[::-1])))
    image.SetOrigin(list(map(float, origin)))
    image.SetDirection(direction[:, ::-1].ravel().tolist())
    sitk.WriteImage(image, str(path), **options)
    return path


def write_series(folder, pixels, spacing=SPACING, origin=ORIGIN, direction=AXES, **elements):
    """A DICOM folder, slices along the first axis; the names run against the positions."""
    for number, picture in enumerate(pixels):
        place = origin + direction[:, 0] * spacing[0] * number
        made = {"ImagePositionPatient": place.round(6).tolist(), "PixelSpacing": list(map(float, spacing[1:])),
                "ImageOrientationPatient": [*direction[:, 2].round(6), *direction[:, 1].round(6)], "Modality": "MR",
                "RescaleIntercept": None, "RescaleSlope": None, "SliceThickness": 3.0, "InstanceNumber": 3, **elements}
        make_dicom(folder / f"s{99 - number}.dcm", np.ascontiguousarray(picture), **made)
    return folder


def check(volume, pixels=None, tilt=LEVEL, atol=1e-4):
    assert volume.pixels.dtype == np.float32 and volume.size == volume.pixels.shape
    np.testing.assert_array_equal(volume.pixels, knee() if pixels is None else pixels)
    np.testing.assert_allclose(volume.spacing, SPACING, atol=atol)
    np.testing.assert_allclose(volume.direction, tilt @ AXES, atol=atol)
    np.testing.assert_allclose(volume.origin, ORIGIN, atol=atol)


def refused(path, reason, echo=None):
    with pytest.raises(Unreadable) as caught:
        read_volume(path, echo)
    assert caught.value.reason == reason, caught.value
    return caught.value.detail


# -- one anatomy, every file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_every_order_and_direction_of_the_axes_comes_out_the_same(tmp_path, name):
    for axes, flips in TURNS:
        path = write(tmp_path / name, *turned(knee(), axes, flips))
        volume = read_volume(path)
        check(volume)
        assert volume.plane == "coronal" and same_geometry(volume, read_header(path))


def test_an_oblique_volume_is_turned_to_the_nearest_axes_and_keeps_its_tilt(tmp_path):
    angle = np.radians(20)
    tilt = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    for axes, flips in TURNS[::5]:
        path = write(tmp_path / "a.nrrd", *turned(knee(), axes, flips, tilt))
        check(read_volume(path), tilt=tilt)


@pytest.mark.parametrize("axes, flips", [(axes, flips) for axes, flips in TURNS
                                         if np.linalg.det(AXES[:, axes] * flips) < 0])  # fmt: skip
def test_a_dicom_series_in_every_orientation_whatever_its_file_names(tmp_path, axes, flips):
    pixels, spacing, origin, direction = turned(knee(), axes, flips)
    folder = write_series(tmp_path / "s", pixels, spacing, origin, direction)
    volume = read_volume(folder)
    check(volume)
    assert same_geometry(volume, read_header(folder))
    (folder / "README.txt").write_text("not a slice, and in nobody's way: this text is longer than a DICOM preamble" * 4)
    check(read_volume(folder))


def test_slices_that_run_against_the_normal_are_sorted_along_it(tmp_path):
    pixels, spacing, origin, direction = turned(knee(), (0, 1, 2), (-1, 1, 1))
    assert np.linalg.det(direction) > 0
    check(read_volume(write_series(tmp_path / "s", pixels, spacing, origin, direction)))


def test_the_grid_is_that_of_simpleitk(tmp_path):
    pixels, spacing, origin, direction = turned(knee(), (2, 0, 1), (-1, 1, -1))
    path = write(tmp_path / "a.mhd", pixels, spacing, origin, direction)
    volume, image = read_volume(path), sitk.ReadImage(str(path))
    for index in np.ndindex(volume.size):
        place = volume.origin + volume.direction @ (np.array(volume.spacing) * index)
        assert image.GetPixel(image.TransformPhysicalPointToIndex(place.tolist())) == volume.pixels[index]


@pytest.mark.parametrize("spacing, plane", [
    ((4, 0.5, 0.5), "coronal"), ((0.5, 4, 0.5), "axial"), ((0.5, 0.5, 4), "sagittal"), ((1, 1, 1), "coronal"),
])  # fmt: skip
def test_the_plane_of_acquisition_is_told_by_the_coarsest_spacing(tmp_path, spacing, plane):
    assert read_volume(write(tmp_path / "a.mhd", knee(), spacing)).plane == plane


def test_an_isotropic_volume_was_acquired_across_the_files_third_axis(tmp_path):
    path = write(tmp_path / "a.nii", knee(), (1, 1, 1), direction=np.eye(3)[:, ::-1])
    assert read_header(path).plane == "axial"


def test_a_header_without_direction_cosines_is_read_as_axial(tmp_path):
    path = write(tmp_path / "a.mhd", knee())
    lines = [line for line in path.read_text().splitlines() if not line.startswith(("TransformMatrix", "Anatomical"))]
    path.write_text("\n".join(lines) + "\n")
    assert read_volume(path).plane == "axial"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_axis_of_negative_spacing_runs_the_other_way(tmp_path, axis):
    path = write(tmp_path / "a.mhd", knee())
    steps = [0.5, 0.6, 4.0]
    steps[axis] *= -1
    lines = [line if not line.startswith("ElementSpacing") else f"ElementSpacing = {' '.join(map(str, steps))}"
             for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.pixels, np.flip(knee(), 2 - axis))
    np.testing.assert_allclose(volume.spacing, SPACING)
    np.testing.assert_allclose(volume.direction, AXES, atol=1e-6)
    corner = ORIGIN - AXES[:, 2 - axis] * SPACING[2 - axis] * (knee().shape[2 - axis] - 1)  # it ends where it began
    np.testing.assert_allclose(volume.origin, corner, atol=1e-4)
    path.write_text(path.read_text().replace(f"{steps[axis]}", "0"))
    refused(path, "bad-header")


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (1, 0)])
def test_a_negative_pixdim_does_not_turn_a_nifti_file_around(tmp_path, axis, codes):
    path = write(tmp_path / "a.nii", knee())
    data = bytearray(path.read_bytes())
    struct.pack_into("<hh", data, 252, *codes)  # qform_code and sform_code
    struct.pack_into("<f", data, 76 + 4 * axis, -struct.unpack_from("<f", data, 76 + 4 * axis)[0])
    path.write_bytes(data)
    check(read_volume(path))


def test_a_nifti_file_without_orientation_is_refused(tmp_path):
    path = write(tmp_path / "a.nii", knee())
    data = bytearray(path.read_bytes())
    struct.pack_into("<hh", data, 252, 0, 0)
    path.write_bytes(data)
    assert "left and right" in refused(path, "no-orientation")


# -- two grids -------------------------------------------------------------------------------------------------------


def grid(size=(5, 6, 7), spacing=SPACING, shift=(0, 0, 0), direction=AXES):
    return Grid(size, spacing, ORIGIN + shift, direction, "coronal")


@pytest.mark.parametrize("other, same", [
    (grid(), True), (grid(shift=(0.2, 0, 0)), True), (grid(shift=(0.3, 0, 0)), False), (grid(size=(5, 6, 8)), False),
    (grid(spacing=(4, 0.6, 0.6)), False), (grid(spacing=(4, 0.6, 0.51)), True), (grid(shift=(0, 4, 0)), False),
    (grid(direction=AXES[:, [0, 2, 1]]), False),
])  # fmt: skip
def test_the_same_geometry_is_one_to_half_a_voxel(other, same):
    assert same_geometry(grid(), other) is same and same_geometry(other, grid()) is same


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FORMATS, "packed.mha", "packed.nrrd"])
@pytest.mark.parametrize("left", [0.6, 0.97])
def test_a_file_that_ends_early_is_refused(tmp_path, name, left):
    path = write(tmp_path / name, np.tile(knee(), (1, 9, 9)), useCompression=name.startswith("packed"))
    data = tmp_path / "a.raw" if name == "a.mhd" else path
    data.write_bytes(data.read_bytes()[:int(data.stat().st_size * left)])
    read_header(path)
    detail = refused(path, "truncated")
    assert name in detail and "0x" not in detail


def test_what_is_no_volume_is_refused(tmp_path):
    refused(tmp_path / "absent.mhd", "no-access")
    (tmp_path / "text.mhd").write_text("nothing\n")
    refused(tmp_path / "text.mhd", "bad-header")
    (tmp_path / "text.csv").write_text("nothing\n")
    refused(tmp_path / "text.csv", "bad-header")
    write(tmp_path / "a.mhd", knee())
    (tmp_path / "a.raw").unlink()
    refused(tmp_path / "a.mhd", "truncated")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "not-dicom")


def test_pictures_series_of_volumes_and_colors_are_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(knee()[0]), tmp_path / "flat.mha")
    assert "2 dimensions" in refused(tmp_path / "flat.mha", "not-3d")
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(knee())] * 2), tmp_path / "time.nii")
    assert "4 dimensions" in refused(tmp_path / "time.nii", "not-3d")
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([knee()] * 3, -1), isVector=True), tmp_path / "color.mha")
    refused(tmp_path / "color.mha", "not-gray")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("value, dtype", [(np.nan, np.float32), (np.inf, np.float64)])
def test_nan_voxels_are_refused(tmp_path, name, value, dtype):
    pixels = knee().astype(dtype)
    pixels[2, 3, 4] = value
    assert "1 of 210" in refused(write(tmp_path / name, pixels), "nan-voxels")


def test_a_missing_slice_is_refused_and_its_neighbors_named(tmp_path):
    folder = write_series(tmp_path / "s", knee())
    (folder / "s97.dcm").unlink()
    detail = refused(folder, "missing-slice")
    assert "8 mm between" in detail and "s96.dcm" in detail and "s98.dcm" in detail


def test_uneven_and_repeated_positions_are_refused(tmp_path):
    folder = write_series(tmp_path / "s", knee())
    place = (ORIGIN + [0, 9.0, 0]).tolist()
    make_dicom(folder / "s97.dcm", knee()[2], ImagePositionPatient=place, PixelSpacing=[0.6, 0.5],
               ImageOrientationPatient=[1, 0, 0, 0, 0, -1])  # fmt: skip
    refused(folder, "uneven-slices")
    make_dicom(folder / "s97.dcm", knee()[2], ImagePositionPatient=(ORIGIN + [0, 4, 0]).tolist(), PixelSpacing=[0.6, 0.5],
               ImageOrientationPatient=[1, 0, 0, 0, 0, -1])  # fmt: skip
    refused(folder, "repeated-position")


def test_two_echoes_are_refused_by_name_and_one_can_be_chosen(tmp_path):
    folder = write_series(tmp_path / "s", knee(), EchoNumbers=1, EchoTime="6.3")
    for path in write_series(tmp_path / "t", knee() + 1000, EchoNumbers=2, EchoTime="12.6").iterdir():
        path.rename(folder / f"t{path.name}")
    assert "1 (6.3 ms), 2 (12.6 ms)" in refused(folder, "two-echoes")
    check(read_volume(folder, echo=1))
    check(read_volume(folder, echo=2), knee() + 1000)
    assert read_header(folder, echo=2).size == (5, 6, 7)
    refused(folder, "no-such-echo", echo=3)


def test_echoes_without_numbers_are_told_by_their_time(tmp_path):
    folder = write_series(tmp_path / "s", knee() + 1000, EchoTime="12.6")
    for path in write_series(tmp_path / "t", knee(), EchoTime="6.3").iterdir():
        path.rename(folder / f"t{path.name}")
    refused(folder, "two-echoes")
    check(read_volume(folder, echo=1))


@pytest.mark.parametrize("elements, pixels, reason", [
    ({"SeriesInstanceUID": "1.2"}, knee()[2], "two-series"), ({"Rows": 6}, knee()[2, :, :5], "mixed-size"),
    ({"ImagePositionPatient": None}, knee()[2], "no-position"), ({"PixelSpacing": [0.6]}, knee()[2], "no-spacing"),
    ({"PixelSpacing": None}, knee()[2], "no-spacing"), ({"PixelSpacing": [0.6, 0.6]}, knee()[2], "mixed-spacing"),
    ({"ImageOrientationPatient": [1, 0, 0, 0, 0.1, -0.995]}, knee()[2], "mixed-orientation"),
    ({}, None, "no-pixels"),
])  # fmt: skip
def test_a_folder_with_one_odd_slice_is_refused(tmp_path, elements, pixels, reason):
    folder = write_series(tmp_path / "s", knee())
    usual = {"ImagePositionPatient": (ORIGIN + [0, 8, 0]).tolist(), "ImageOrientationPatient": [1, 0, 0, 0, 0, -1],
             "PixelSpacing": [0.6, 0.5]}  # fmt: skip
    make_dicom(folder / "s97.dcm", None if pixels is None else np.ascontiguousarray(pixels), **(usual | elements))
    refused(folder, reason)


def test_a_dicomdir_among_the_slices_is_passed_over(tmp_path):
    folder = write_series(tmp_path / "s", knee())
    dataset = pydicom.dcmread(make_dicom(tmp_path / "DICOMDIR", None))
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    for name in ("DICOMDIR", "other"):
        dataset.save_as(folder / name)
    check(read_volume(folder))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_slices_without_a_head_are_read(tmp_path, syntax):
    folder = write_series(tmp_path / "s", knee(), syntax=syntax, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    for path in folder.iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[144 + int.from_bytes(whole[140:144], "little"):])  # neither preamble nor meta group
    check(read_volume(folder))


def test_slices_of_no_known_kind_are_refused_and_not_placed_wrong(tmp_path):
    folder = write_series(tmp_path / "s", knee())
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.5.1.4.9.9.9"))
    refused(folder, "bad-header")


def test_a_cut_off_slice_is_refused_by_name(tmp_path):
    folder = write_series(tmp_path / "s", knee())
    data = (folder / "s96.dcm").read_bytes()
    (folder / "s96.dcm").write_bytes(data[:-20])
    assert "s96.dcm" in refused(folder, "truncated")


# -- real knees ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sample() -> Path:
    if "RADSTACK_REAL_DATA" not in os.environ:
        pytest.skip("RADSTACK_REAL_DATA is not set")
    return Path(os.environ["RADSTACK_REAL_DATA"], "knee_sample")


def check_against_simpleitk(volume, image, points=300):
    """Every drawn voxel of ``volume`` is the voxel of ``image`` at the same place in the patient."""
    stored = sitk.GetArrayViewFromImage(image)
    for index in np.random.default_rng(0).integers(0, volume.size, (points, 3)):
        place = volume.origin + volume.direction @ (np.array(volume.spacing) * index)
        exact = np.array(image.TransformPhysicalPointToContinuousIndex(place.tolist()))
        np.testing.assert_allclose(exact, exact.round(), atol=1e-3)
        x, y, z = exact.round().astype(int)
        assert volume.pixels[tuple(index)] == stored[z, y, x]


@pytest.mark.real
@pytest.mark.parametrize("echo, time", [(1, "6.312"), (2, "12.624")])
def test_the_real_series_has_24_slices_4_mm_apart(sample, echo, time):
    folder = sample / "mese_t2_dicom"
    volume = read_volume(folder, echo=echo)
    assert volume.size == (256, 256, 24) and volume.plane == "sagittal" and same_geometry(volume, read_header(folder, echo))
    np.testing.assert_allclose(volume.spacing, (0.625, 0.625, 4.0), atol=1e-4)
    reader = sitk.ImageFileReader()
    names = []
    for path in sorted(folder.iterdir()):
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        names += [str(path)] if reader.GetMetaData("0018|0081").strip() == time else []
    check_against_simpleitk(volume, sitk.ReadImage(names, sitk.sitkFloat32))
    np.testing.assert_array_less(0.98, np.diag(AXES.T @ volume.direction))


@pytest.mark.real
def test_the_real_folder_holds_two_echoes(sample):
    assert "1 (6.312 ms), 2 (12.624 ms)" in refused(sample / "mese_t2_dicom", "two-echoes")


@pytest.mark.real
@pytest.mark.parametrize("pattern, count", [("*.nrrd", 1), ("*.nii.gz", 2)])
def test_the_real_label_volumes_are_oriented(sample, pattern, count):
    paths = sorted(sample.glob(pattern))
    assert len(paths) == count
    for path in paths:
        volume = read_volume(path)
        assert volume.size == (384, 384, 160) and volume.plane == "sagittal"
        np.testing.assert_allclose(volume.spacing, (0.36458333, 0.36458333, 0.7), atol=1e-6)
        check_against_simpleitk(volume, sitk.ReadImage(str(path)))
        np.testing.assert_array_less(0.98, np.diag(AXES.T @ volume.direction))


@pytest.mark.real
def test_two_visits_of_a_real_knee_lie_on_two_grids(sample):
    first, second = (read_header(path) for path in sorted(sample.glob("*.nii.gz")))
    assert first.size == second.size and not same_geometry(first, second)


@pytest.mark.real
def test_the_femur_of_the_real_label_volume_is_above_the_tibia(sample):
    """In the nrrd the two largest labels are femur and tibia: 5 and 6."""
    labels = read_volume(next(sample.glob("*.nrrd"))).pixels
    rows = [np.average(np.arange(labels.shape[1]), weights=(labels == bone).sum(axis=(0, 2))) for bone in (5, 6)]
    assert sorted(np.bincount(labels.astype(np.uint8).ravel())[1:].argsort()[-2:] + 1) == [5, 6]
    assert rows[0] + 100 < rows[1]


def test_a_pipe_instead_of_voxels_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.nii")
    refused(tmp_path / "a.nii", "not-a-file")
    path = write(tmp_path / "b.mhd", knee())
    (tmp_path / "b.raw").unlink()
    os.mkfifo(tmp_path / "b.raw")
    refused(path, "not-a-file")


DIES_OF_VOXELS = ("import sys, os; sys.path.insert(0, sys.argv[1]); from radstack.images import itk; usual = itk._voxels; "
                  "itk._voxels = lambda reader, facts: os.abort() if {} in facts['path'] else usual(reader, facts); "
                  "itk.serve_volumes()")
"""A helper that dies when it is asked for the voxels of a file whose path holds some words."""


@pytest.mark.parametrize("name", ["a.mhd", "a.nrrd", "a.nii"])
def test_a_header_of_billions_of_voxels_is_refused_before_there_is_room_for_them(tmp_path, name, monkeypatch):
    path = write(tmp_path / name, knee())
    data = path.read_bytes()
    for old, new in ((b"DimSize = ", b"DimSize = 9"), (b"sizes: ", b"sizes: 9")):
        data = data.replace(old, new)
    if name == "a.nii":
        data = data[:42] + (30_000).to_bytes(2, "little") + data[44:]
    path.write_bytes(data)
    itk.HELPER.close()
    monkeypatch.setattr(itk.HELPER, "start", DIES_OF_VOXELS.format("''"))  # of any file's
    try:
        with pytest.raises(Unreadable, match="truncated: .* bytes of voxels"):
            read_volume(path)
        assert "SIGABRT" in refused(write(tmp_path / f"sound_{name}", knee()), "undecodable"), "the guard is a real one"
    finally:
        itk.HELPER.close()


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless])
def test_a_compressed_series_is_the_volume_that_it_was(tmp_path, syntax):
    elements = {"RescaleSlope": "2.5", "RescaleIntercept": "-7", "SOPInstanceUID": "1.2.3"}
    pixels = np.kron(knee().astype(np.uint16), np.ones((1, 8, 8), np.uint16))  # an encoder wants some size
    plain = read_volume(write_series(tmp_path / "plain", pixels, **elements))
    folder = write_series(tmp_path / "packed", pixels, **elements)
    for file in folder.iterdir():
        compress(file, syntax)
    packed = read_volume(folder)
    assert np.array_equal(packed.pixels, plain.pixels) and same_geometry(packed, plain)
    assert packed.spacing == plain.spacing and np.allclose(packed.direction, plain.direction)
    cut = sorted(folder.iterdir())[2]
    cut.write_bytes(cut.read_bytes()[:-30])
    with pytest.raises(Unreadable, match=f"truncated: {cut.name}"):
        read_volume(folder)


@pytest.mark.parametrize("name", ["a.mhd", "a.mha"])
@pytest.mark.parametrize("axes", [b"93", b"-3", b"11"])
def test_more_axes_than_there_is_room_for_are_refused_before_itk_dies_of_them(tmp_path, name, axes):
    path = write(tmp_path / name, knee())
    path.write_bytes(path.read_bytes().replace(b"NDims = 3", b"NDims = " + axes))
    refused(path, "bad-header")


def test_a_header_that_itk_dies_of_costs_its_own_volume_alone(tmp_path, monkeypatch):
    path = write(tmp_path / "a.nii", knee())
    read_volume(path)
    itk.HELPER.close()
    monkeypatch.setattr(itk.HELPER, "start", "import os; os.abort()")
    assert "SIGABRT" in refused(path, "bad-header")
    monkeypatch.undo()
    assert np.array_equal(np.sort(read_volume(path).pixels.ravel()), np.arange(knee().size))


@pytest.mark.parametrize("name", FORMATS)
def test_no_file_is_read_by_itk_in_this_process(tmp_path, monkeypatch, name):
    path = write(tmp_path / name, knee())
    monkeypatch.setattr(sitk, "ImageFileReader", None)
    check(read_volume(path))
    assert read_volume(path).pixels.flags.writeable


def test_voxels_that_itk_dies_of_cost_their_own_volume_alone(tmp_path, monkeypatch):
    bad, good = write(tmp_path / "bad.mha", knee()), write(tmp_path / "good.mha", knee())
    itk.HELPER.close()
    monkeypatch.setattr(itk.HELPER, "start", DIES_OF_VOXELS.format("'bad.mha'"))
    try:
        said = refused(bad, "undecodable")
        assert "bad.mha" in said and "SIGABRT" in said
        check(read_volume(good))
    finally:
        itk.HELPER.close()


def test_a_header_whose_lines_ran_together_is_refused_and_the_next_file_read(tmp_path):
    path = write(tmp_path / "a.mha", knee())
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"MSB = False\n", b"MSB = Falseo"))
    assert "CompressedData in the middle of a line" in refused(path, "bad-header")
    path.write_bytes(whole.replace(b"DimSize", b"DimSoze"))
    helper = itk.HELPER.process
    refused(path, "bad-header")
    assert itk.HELPER.process is None or itk.HELPER.process is not helper
    path.write_bytes(whole)
    check(read_volume(path))
