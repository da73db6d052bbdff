"""``apply`` on many slices: seconds, peak memory and disk, with one small network that was saved and never trained.

    python benchmarks/apply_scale.py                                   # 20,000 slices in parts of 8,192: some minutes, 2 GB
    python benchmarks/apply_scale.py --slices 2500 --part 1000         # small

Slices are copies of one drawn slice with ids of their own, 36 a series. Memory is that of the process and of its largest
child; the disk is what the folder for work held when the last part was answered.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch

from competitions import load
from phantoms.ich import draw
from radstack.commands.apply import Wish, run_apply
from radstack.core.recipe import change
from radstack.nets.backbones import build
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.stack.method import Fitted
from radstack.stack.registry import method_of
from radstack.stack.store import write_fitted
from radstack.stages.apply import PART
from radstack.stages.train import write_weights

A_SERIES = 36


def main() -> None:
    """Draw, apply, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=20_000)
    parser.add_argument("--part", type=int, default=PART, help="slices that are worked on together")
    parser.add_argument("--workers", type=int, default=1, help="processes that read and decode")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        copies(home / "drawn", home / "in", options.slices)
        context, before, start = solution(home, options.workers), peak(), time.perf_counter()
        run_apply(context, Wish(home / "in", home / "out.csv", work=home / "work", part=options.part))
        seconds = time.perf_counter() - start
        disk = sum(path.stat().st_size for path in (home / "work").rglob("*") if path.is_file())
        print(f"\n{options.slices:,} slices in parts of {options.part:,}: {seconds:.0f} s, "
              f"{options.slices / A_SERIES / seconds * 60:,.0f} series a minute, peak {peak():.2f} GB "
              f"({before:.2f} GB before), work {disk / 1e6:.0f} MB")


def peak() -> float:
    """Largest memory so far of this process or of its largest child, GB."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20


def copies(drawn: Path, folder: Path, count: int, a_series: int = A_SERIES) -> None:
    """Write ``count`` slices: one drawn slice with other ids and positions, each of the length of the old."""
    import pydicom

    draw(drawn, series=2, workers=1, progress=lambda *_, **__: None, size=128)
    one = pydicom.dcmread(max(drawn.rglob("*.dcm"), key=lambda path: path.stat().st_size))
    one.PatientID, one.StudyInstanceUID = "P@@@@@@@", "1.1"
    one.SeriesInstanceUID, one.SOPInstanceUID = "S@@@@@@@", "I@@@@@@@"
    one.ImagePositionPatient, one.ImageOrientationPatient = [-125, -125, 9876.54], [1, 0, 0, 0, 1, 0]
    one.save_as(drawn / "template", enforce_file_format=True)
    template = (drawn / "template").read_bytes()
    for number in range(count):
        series, place = divmod(number, a_series)
        where = folder / f"{series:06d}"
        where.mkdir(parents=True, exist_ok=True)
        ids = template.replace(b"P@@@@@@@", b"P%07d" % series).replace(b"S@@@@@@@", b"S%07d" % series)
        (where / f"{place}.dcm").write_bytes(ids.replace(b"I@@@@@@@", b"I%07d" % number).replace(b"9876.54",
                                                                                              b"%7.2f" % (5 * place)))


def solution(home: Path, workers: int) -> Context:
    """``ich`` with one network of one fold and one view."""
    whole = load("ich", demo=True)
    network = change(whole.recipe("resnet"), folds=(0,), tta=("plain",))
    mean = change(whole.recipe("mean"), name="final", members=("resnet",))
    competition = change(whole, models__experiments=(network,), models__on_call=(), models__sequences=(),
                         models__stackers=(mean,))
    net = build(network.backbone, len(whole.targets), len(network.view.mean))
    write_weights(home / "weights/ich-demo/resnet/fold0.safetensors", net.state_dict())
    write_fitted(home / "weights/ich-demo/final", 0, Fitted(method_of(mean), None, {}))
    torch.set_num_threads(1)
    return make_context(competition, Options(data_dir=str(home), out_dir=str(home), workers=workers))


if __name__ == "__main__":
    main()
