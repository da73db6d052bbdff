"""Slices a second of stages 02 and 03 of ich, which decode every slice, against decoding alone, by transfer syntax.

    python benchmarks/stages_decode.py --input input/ich [--series 12] [--only JPEG-2000] [--workers 2] [--rounds 3]

Copies of the first series are written into a temporary folder, uncompressed and compressed without loss, and the real
stages work on them there. All ways run in turn, by as many processes; of each the round with the least CPU time counts (that
of all processes, the kernel's included). What the start of the processes takes, with a decoder for each, is measured apart
and taken off: in an archive it is nothing, but of a sample it is much, so that more than one process wants many series. All
syntaxes must give the same boxes and the same cached bytes. Prints a markdown table; 100 % would be a stage that does
nothing but decode.
"""

import argparse
import contextlib
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from competitions.ich import COMPETITION
from competitions.ich.index import build_index
from radstack.core.files import write_table
from radstack.core.parallel import in_processes
from radstack.images.dicom import decoder, read_stored
from radstack.images.shards import Shards
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.stages import decode
from radstack.stages.cache import cache
from radstack.stages.localize import localize


class Syntax(NamedTuple):
    """How slices are stored."""

    uid: UID
    share: int  # Times ``--series``: what is decoded sooner takes more slices to be measured
    passes: int  # Of decoding alone, for the same reason


SYNTAXES = {"uncompressed": Syntax(ExplicitVRLittleEndian, 5, 5), "JPEG-lossless": Syntax(JPEGLosslessSV1, 2, 1),
            "JPEG-2000": Syntax(JPEG2000Lossless, 1, 1)}


ALONE = "decoding alone"


class Cost(NamedTuple):
    """Seconds of one way."""

    cpu: float  # Of all processes
    clock: float

    def less(self, other: "Cost", count: int = 1) -> "Cost":
        """Without those of another one, of each of ``count`` passes."""
        return Cost(*((max(mine - its, 0) / count for mine, its in zip(self, other))))


def copied(source: Path, target: Path, uid: UID, paths: list[str]) -> None:
    """Write the slices ``paths`` of ``source`` into ``target`` with the transfer syntax ``uid``."""
    warnings.simplefilter("ignore")  # the archive's identifiers are not valid UIDs
    for path in paths:
        dataset, file = pydicom.dcmread(source / path), target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            dataset.decompress()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if uid == JPEG2000Lossless:
            dataset.compress(uid, generate_instance_uid=False)
        dataset.save_as(file, implicit_vr=False, little_endian=True)
        if uid == JPEGLosslessSV1:  # pydicom has no encoder for it
            compress_by_gdcm(file, uid)


def compress_by_gdcm(file: Path, uid: UID) -> None:
    """Let ``file`` hold its picture compressed."""
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(file))
    assert reader.Read(), file
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(uid))))
    change.SetInput(reader.GetImage())
    assert change.Change(), file
    writer.SetFileName(str(file))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write(), file


def prepared(source: Path, out: Path, index: pd.DataFrame, uid: UID, workers: int) -> Context:
    """A project folder with the slices of ``index`` in a transfer syntax, and the index itself."""
    shard = min(COMPETITION.cache.per_shard, piece(len(index), workers))
    options = Options(data_dir=str(out), out_dir=str(out), workers=workers, edits=(f"cache.per_shard={shard}",))
    context = make_context(COMPETITION, options)
    for _ in in_processes(partial(copied, source, context.paths.input, uid), pieces(index, workers), workers):
        pass
    write_table(context.paths.folds / "index.parquet", index)
    return context


def piece(count: int, workers: int) -> int:
    """Slices in one piece of work: of a small sample, too, every process has as much to do."""
    return -(-count // (4 * workers if workers > 1 else 1))


def pieces(index: pd.DataFrame, workers: int) -> list[list[str]]:
    """The paths of ``index`` in pieces of work."""
    paths, size = index["path"].tolist(), piece(len(index), workers)
    return [paths[start:start + size] for start in range(0, len(paths), size)]


def decoded(folder: Path, paths: list[str]) -> None:
    """Decode slices and do nothing with them."""
    for path in paths:
        read_stored(folder / path)


def decode_alone(context: Context, work: list[list[str]]) -> None:
    """Decode pieces of work in the processes of a run."""
    for _ in in_processes(partial(decoded, context.paths.input), work, context.options.workers):
        pass


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Let the library say nothing."""
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        yield


def cost(work: Callable[[], object]) -> Cost:
    """Seconds of one call and of the processes that it started, which end with it."""
    before, start = cpu_seconds(), time.perf_counter()
    with silent():
        work()
    decoder.HELPER.close()  # where this process is the only worker
    return Cost(cpu_seconds() - before, time.perf_counter() - start)


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def costs(context: Context, index: pd.DataFrame, passes: int, rounds: int) -> dict[str, Cost]:
    """Decoding alone and each stage, beyond the start of the processes: the cheapest of the rounds."""
    work, workers = pieces(index, context.options.workers), context.options.workers
    decode.CHUNK = piece(len(index), workers)
    ways: dict[str, Callable[[], object]] = {
        "start": lambda: decode_alone(context, [work[0][:1]] * workers),
        ALONE: lambda: decode_alone(context, work * passes),
        "02_localize": lambda: localize(context),
        "03_cache": lambda: cache(context),
    }
    found: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        shutil.rmtree(context.paths.cache, ignore_errors=True)
        for name, way in ways.items():
            found[name].append(cost(way))
    start, *others = (min(own) for own in found.values())
    return {name: own.less(start, passes if name == ALONE else 1) for name, own in zip([*ways][1:], others)}


def cached(context: Context) -> tuple[pd.DataFrame, Callable[[int], np.ndarray]]:
    """The row table of stage 03 by id, and what gives the picture of a row."""
    rows = pd.read_parquet(context.paths.cache / "rows.parquet").set_index("id")
    shards, places = Shards(context.paths.cache), rows[["shard", "slot"]].to_numpy().tolist()
    return rows.drop(columns=["shard", "slot"]), lambda row: shards(*places[row])


def differing(one: Context, other: Context) -> int:
    """How many slices of both have other boxes or other cached bytes."""
    (rows, picture), (others, its) = cached(one), cached(other)
    both = rows.index.intersection(others.index)
    return sum(not rows.loc[name].equals(others.loc[name])
               or not np.array_equal(picture(rows.index.get_loc(name)), its(others.index.get_loc(name))) for name in both)


def lines(syntax: str, count: int, found: dict[str, Cost]) -> Iterator[str]:
    """Rows of the table."""
    for name, own in found.items():
        cells = [f"{seconds / count * 1e6:,.0f}" for seconds in own]
        cells += [f"{100 * alone / max(seconds, 1e-9):.0f} %" for alone, seconds in zip(found[ALONE], own)]
        yield f"| {syntax} | {count:,} | {name} | {' | '.join(cells)} |"


def main() -> None:
    """Copy, measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True, help="folder in the layout of input/ich")
    parser.add_argument("--series", type=int, default=12, help="of JPEG 2000; two and five times as many of the others")
    parser.add_argument("--only", nargs="+", choices=SYNTAXES, default=list(SYNTAXES), help="transfer syntaxes")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with silent():
            whole, _ = build_index(options.input, options.workers, Path(folder) / "parts")
        whole, done = whole.assign(split="test"), dict[str, Context]()  # one split, so that stage 02 starts processes once
        print("| transfer syntax | slices | way | CPU us a slice | clock us | slices a second against decoding alone, CPU "
              "| clock |\n|---|---:|---|---:|---:|---:|---:|")
        for name in options.only:
            syntax = SYNTAXES[name]
            chosen = whole["series"].unique()[:options.series * syntax.share]
            index = whole[whole["series"].isin(chosen)].reset_index(drop=True)
            done[name] = prepared(options.input, Path(folder) / name, index, syntax.uid, options.workers)
            found = costs(done[name], index, syntax.passes, options.rounds)
            print("\n".join(lines(name, len(index), found)), flush=True)
        first, *others = done.values()
        wrong = sum(differing(first, other) for other in others)
        print(f"\n{wrong} slices have other boxes or other cached bytes in another syntax")


if __name__ == "__main__":
    main()
