"""Damaged and hostile DICOM files: the right reason, no memory, no dead process, no wrong pixels; sound ones are read."""

import multiprocessing
import os
import select
import signal
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import compress, make_dicom, noise, scene
from pydicom import uid

from radstack.commands.needs import closure
from radstack.images.dicom import Unreadable, decoder, fault, read_header, read_stored, stream

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
LOSSLESS = [uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless]
FAULTS = {
    "cut_to_70_percent.dcm": "truncated", "memory_13GB_J2KR.dcm": "wrong-size", "memory_CT1_J2KR_46.dcm": "wrong-size",
    "panic_CT1_RLE_31.dcm": "undecodable", "signal_11_CT1_JPLL_29.dcm": "wrong-size",
    "signal_6_CT1_JLSL_29.dcm": "wrong-size", "signal_6_J2KR_precision.dcm": "wrong-size",
}  # fmt: skip


def reason(path: Path) -> str:
    with pytest.raises(Unreadable) as caught:
        read_stored(path)
    return caught.value.reason


def packed(path: Path, syntax: str) -> Path:
    """A sound compressed file; its name is the SOPInstanceUID."""
    return compress(make_dicom(path, scene()), syntax)


def changed(path: Path, name: str, frame: bytes) -> Path:
    """``path`` with another codestream, under ``name``."""
    dataset = pydicom.dcmread(path)
    dataset.PixelData = pydicom.encaps.encapsulate([frame])
    dataset.save_as(path.with_name(name))
    return path.with_name(name)


def frame_in(path: Path) -> bytes:
    header = read_header(path)
    return stream.frame_of(path.read_bytes(), header.pixel_offset, True)


# -- compressed syntaxes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_every_lossless_syntax_is_read_bit_for_bit(tmp_path, syntax):
    path = packed(tmp_path / "1.2.dcm", syntax)
    assert read_header(path).transfer_syntax == syntax and np.array_equal(read_stored(path)[0], scene())


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_a_header_of_another_size_than_the_codestream_is_refused(tmp_path, syntax):
    path = packed(tmp_path / "1.2.dcm", syntax)
    for rows, columns in ((47, 64), (48, 63), (49, 64), (48, 65), (40, 60), (96, 128)):
        dataset = pydicom.dcmread(path)
        dataset.Rows, dataset.Columns = rows, columns
        dataset.save_as(tmp_path / "other.dcm")
        expected = {"undecodable"} if syntax == uid.RLELossless else {"wrong-size"}
        assert reason(tmp_path / "other.dcm") in expected, (rows, columns)


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.7, 0.99])
def test_a_codestream_that_was_cut_is_refused_by_its_file_and_by_itself(tmp_path, syntax, share):
    path = packed(tmp_path / "1.2.dcm", syntax)
    frame, data = frame_in(path), path.read_bytes()
    again = changed(path, "again.dcm", frame[:int(len(frame) * share)])  # whole items around a cut codestream
    assert reason(again) in ({"truncated", "undecodable"} if syntax == uid.RLELossless else {"truncated"})
    path.write_bytes(data[:len(data) - 8 - int(len(frame) * (1 - share)) - 2])
    assert reason(path) == "truncated"


def test_another_precision_or_more_components_are_refused(tmp_path):
    path = packed(tmp_path / "1.2.dcm", uid.JPEGLosslessSV1)
    frame = frame_in(path)
    at = frame.index(b"\xff\xc3")
    assert frame[at + 4] in (12, 16)
    assert reason(changed(path, "bits.dcm", frame[:at + 4] + b"\x0b" + frame[at + 5:])) == "wrong-size"
    assert reason(changed(path, "three.dcm", frame[:at + 9] + b"\x03" + frame[at + 10:])) == "wrong-size"


def test_a_width_of_millions_is_refused_before_it_is_allocated(tmp_path):
    path = packed(tmp_path / "1.2.dcm", uid.JPEG2000Lossless)
    frame = frame_in(path)
    wide = changed(path, "wide.dcm", frame[:8] + struct.pack(">I", 13 << 20) + frame[12:])
    assert reason(wide) == "wrong-size"


def test_the_strict_decoder_is_the_only_one_that_is_asked(tmp_path):
    path = packed(tmp_path / "1.2.dcm", uid.JPEGLosslessSV1)
    frame = bytearray(frame_in(path))
    table = frame.index(b"\xff\xc4")
    frame[table + 5:table + 21] = bytes(16)  # a Huffman table without a code
    with pytest.raises(Unreadable, match="gdcm") as caught:
        read_stored(changed(path, "table.dcm", bytes(frame)))
    assert caught.value.reason == "undecodable" and "pylibjpeg" not in caught.value.detail


def test_a_lossy_stream_that_one_decoder_refuses_is_not_filled_with_gray(tmp_path):
    pixels = scene((64, 64), 8)
    path = compress(make_dicom(tmp_path / "1.2.dcm", pixels), uid.JPEGBaseline8Bit)
    assert np.abs(read_stored(path)[0].astype(int) - pixels).max() < 30
    frame = frame_in(path)
    middle = (frame.index(b"\xff\xda") + len(frame)) // 2
    dropped = changed(path, "dropped.dcm", frame[:middle] + frame[-2:])  # its end mark is there
    assert reason(dropped) == "undecodable"


@pytest.mark.real
@pytest.mark.parametrize("name", FAULTS)
def test_seven_files_that_ended_processes_have_their_reason(name):
    if "RADSTACK_REAL_DATA" not in os.environ:
        pytest.skip("RADSTACK_REAL_DATA is not set")
    path = Path(os.environ["RADSTACK_REAL_DATA"], "dicom_faults", name)
    assert fault(read_header(path)) is None and reason(path) == FAULTS[name]


# -- the process that decodes ----------------------------------------------------------------------------------------


def test_a_decoder_that_dies_costs_its_own_picture_alone(tmp_path, monkeypatch):
    path = packed(tmp_path / "1.2.dcm", uid.JPEG2000Lossless)
    decoder.HELPER.close()
    monkeypatch.setattr(decoder.HELPER, "start", "import os; os.abort()")
    with pytest.raises(Unreadable, match="SIGABRT") as caught:
        read_stored(path)
    assert caught.value.reason == "undecodable"
    monkeypatch.undo()
    assert np.array_equal(read_stored(path)[0], scene())
    os.kill(decoder.HELPER.process.pid, signal.SIGKILL)  # by the system, for memory
    assert np.array_equal(read_stored(path)[0], scene())


def test_an_answer_is_never_that_to_an_earlier_question(tmp_path, monkeypatch):
    path = packed(tmp_path / "1.2.dcm", uid.JPEG2000Lossless)
    one = read_stored(path)[0]

    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(decoder, "_receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_stored(path)
    monkeypatch.undo()
    other = compress(make_dicom(tmp_path / "1.3.dcm", scene(seed=1)), uid.JPEG2000Lossless)
    assert np.array_equal(read_stored(other)[0], scene(seed=1)) and np.array_equal(one, scene())


def sum_of(path: Path) -> int:
    return int(read_stored(path)[0].sum())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_pool_decode_with_helpers_of_their_own(tmp_path, method):
    path = packed(tmp_path / "1.2.dcm", uid.JPEG2000Lossless)
    expected = sum_of(path)
    mine = decoder.HELPER.process
    with multiprocessing.get_context(method).Pool(2) as pool:  # its workers are daemons, which may have no children
        assert pool.map(sum_of, [path] * 6) == [expected] * 6
    assert decoder.HELPER.process is mine and mine.poll() is None and sum_of(path) == expected


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a process by Linux' means")
def test_the_helper_ends_with_the_process_that_it_works_for(tmp_path):
    path = packed(tmp_path / "1.2.dcm", uid.JPEG2000Lossless)
    code = ("import sys; sys.path.insert(0, sys.argv[1])\nfrom radstack.images.dicom import decoder, read_stored\n"
            "read_stored(sys.argv[2]); print(decoder.HELPER.process.pid, flush=True); sys.stdin.read()")
    parent = subprocess.Popen([sys.executable, "-c", code, decoder.SOURCE, path], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    watched = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    assert select.select([watched], [], [], 60)[0], "the helper outlived its parent"
    os.close(watched)


def test_a_bundle_takes_the_helper_along():
    modules, foreign = closure(["radstack.images.dicom"])
    assert "radstack.images.dicom.child" in modules and "rle" in foreign


# -- memory ----------------------------------------------------------------------------------------------------------


def peak(work) -> int:
    """The most bytes that Python held during ``work()``."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_tail_of_three_gigabytes_is_not_read(tmp_path):
    pixels = noise((64, 64))
    path = make_dicom(tmp_path / "a.dcm", pixels)
    os.truncate(path, 3 << 30)
    assert peak(lambda: read_stored(path)) < 100 << 20
    assert np.array_equal(read_stored(path)[0], pixels)
    squeezed = packed(tmp_path / "1.2.dcm", uid.JPEG2000Lossless)
    os.truncate(squeezed, 3 << 30)
    assert peak(lambda: read_stored(squeezed)) < 100 << 20
    assert np.array_equal(read_stored(squeezed)[0], scene())


def deflated(path: Path, dataset: bytes) -> Path:
    """A deflated file whose data set is ``dataset``."""
    plain = make_dicom(path, noise(), syntax=uid.DeflatedExplicitVRLittleEndian).read_bytes()
    start = 132 + 12 + struct.unpack_from("<I", plain, 140)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(plain[:start] + packer.compress(dataset) + packer.flush())
    return path


def data_set(path: Path) -> bytes:
    """The data set of a plain file, without its meta group."""
    plain = make_dicom(path, noise()).read_bytes()
    return plain[132 + 12 + struct.unpack_from("<I", plain, 140)[0]:]


def test_a_deflated_file_is_inflated_no_further_than_its_picture(tmp_path):
    whole = data_set(tmp_path / "a.dcm")
    path = deflated(tmp_path / "b.dcm", whole + bytes(1 << 28))
    assert path.stat().st_size < 1 << 20 and peak(lambda: read_stored(path)) < 100 << 20
    assert np.array_equal(read_stored(path)[0], noise())
    assert reason(deflated(tmp_path / "c.dcm", whole[:-20])) == "truncated"
    assert reason(deflated(tmp_path / "d.dcm", whole[:-140])) == "no-pixels"
    assert reason(deflated(tmp_path / "e.dcm", whole[:-145])) == "truncated"
    comment = struct.pack("<HH2sHI", 0x0008, 0x0001, b"UT", 0, 1 << 28) + bytes(1 << 28)  # before all others
    bomb = deflated(tmp_path / "f.dcm", comment + whole)
    assert bomb.stat().st_size < 1 << 20 and peak(lambda: reason(bomb)) < 200 << 20 and reason(bomb) == "bad-header"


@pytest.mark.parametrize("length", [1 << 20, 3 << 30])
def test_a_length_that_was_damaged_is_no_allocation(tmp_path, length):
    path = make_dicom(tmp_path / "a.dcm", noise(), ImageComments="x" * 9000)
    data = path.read_bytes()
    at = data.index(struct.pack("<HH", 0x0020, 0x4000))
    path.write_bytes(data[:at + 4] + b"UT\0\0" + struct.pack("<I", length) + data[at + 8:])
    assert peak(lambda: reason(path)) < 100 << 20 and reason(path) == "truncated"


# -- reasons ---------------------------------------------------------------------------------------------------------


def test_a_file_that_was_cut_is_refused_by_what_is_missing_wherever_it_was_cut(tmp_path):
    """Between two elements the pixels are missing; within one it is cut off, as it is within the pixels."""
    whole = make_dicom(tmp_path / "a.dcm", noise()).read_bytes()
    path, seen = tmp_path / "b.dcm", []
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        seen.append(reason(path))
    assert seen[:132] == ["empty"] + ["not-dicom"] * 131
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    elements = [(pydicom.datadict.keyword_for_tag(tag), dataset.get_item(tag)) for tag in dataset.keys()]  # noqa: SIM118
    assert len(elements) > 20 and set(seen[132:elements[1][1].value_tell - 8]) <= {"truncated", "no-pixels", "bad-header"}
    for name, element in elements[1:]:
        value, end = element.value_tell, element.value_tell + element.length
        start = value - (12 if element.VR == "OW" else 8)
        assert seen[start] == "no-pixels" and set(seen[start + 1:value]) == {"truncated"}, name
        if name in ("HighBit", "PixelData"):  # of the others a part is kept: a short text, half a number
            assert set(seen[value:end]) == {"truncated"}, name
        elif element.VR == "US":
            assert seen[value:end] == ["no-pixels", "bad-header"], name
        else:
            assert set(seen[value:end]) <= {"no-pixels", "bad-header"}, name
    assert end == len(whole) and name == "PixelData"


def test_special_files_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "loop.dcm").symlink_to(tmp_path / "loop.dcm")
    (tmp_path / "folder.dcm").mkdir()
    for name in ("pipe.dcm", "loop.dcm", "folder.dcm"):
        assert reason(tmp_path / name) == "not-a-file"
        with pytest.raises(Unreadable, match="not-a-file"):
            read_header(tmp_path / name)
