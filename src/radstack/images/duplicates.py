"""Pictures that are in two folds, or in train and test, under different patients: equal, or nearly so.

A perceptual hash (Zauner 2010) of the lowest 16 x 16 coefficients of the discrete cosine transform, one bit each: above or
below the data's own median, so that the anatomy that all pictures share takes no bit. Pairs within a Hamming distance come
from multi-index hashing (Norouzi 2012), exactly, and are confirmed by the correlation of the cached pixels.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.parallel import in_processes
from radstack.core.progress import track
from radstack.images.shards import Shards

Read = Callable[[int], np.ndarray]
"""Row number -> its cached picture [height, width]."""
Place = Path | Shards
"""Where the cached pictures lie: a folder, or several that are read as one."""
DISTANCE = 10
"""Bits of 255 that may differ. Of 200 copies of each competition's phantoms at JPEG quality 80 one differs by more, of
those 3 % brighter, shifted or mirrored none; one in 100,000 pairs of different patients' slices comes as near."""
ALIKE = 0.99
"""Correlation of the cached pixels that confirms a pair; JPEG at quality 80 leaves 0.994 and more."""
LOW = 16
"""Coefficients a side of the hash."""
REACH = 2
"""Shift in pixels of the cached picture, down and right, within which a copy is found."""
EMPTY = 0.05
"""A picture whose standard deviation is below this share of the median one shows nothing (air), and is left out."""
EXACT = ("same pixels", "same raw pixels")
"""Kinds of pairs that are copies beyond doubt."""
CHANCE = 0.8
"""Two of 750,000 pictures share a CRC-32 by chance some sixty times; what correlates less than this is such a pair."""
SHIFTS = [shift for shift in product(range(-REACH, REACH + 1), repeat=2) if shift >= (0, 0)]
"""Half of all shifts, in (down, right): the other half is met when the two pictures change places."""
MIRRORED = len(SHIFTS)
"""Number of the probe that is the picture itself with left and right exchanged."""
SAMPLE = 20_000
"""Pictures whose coefficients give the medians."""
MOST = 1_000_000
"""Pairs that are confirmed, nearest first: a quarter of an hour at 512 pixels."""
CHUNK, BLOCK = 64, 2_000_000
"""Pictures hashed, and pairs compared, at a time."""


@dataclass(frozen=True)
class Hashes:
    """What is kept of the pictures: half a kilobyte each."""

    words: np.ndarray
    """uint64 [probes, pictures, 4]: the hash as each of ``SHIFTS`` would make it, then mirrored; the first is unshifted."""
    spread: np.ndarray
    """Standard deviation of the pixels, float32 [pictures]."""
    crc: np.ndarray
    """CRC-32 of the pixels, uint32 [pictures]."""

    @property
    def shows(self) -> np.ndarray:
        """Which pictures show something, bool [pictures]."""
        return self.spread > EMPTY * np.median(self.spread)


def duplicates(folder: Place, rows: pd.DataFrame, part: np.ndarray, distance: int = DISTANCE,
               workers: int = 1) -> tuple[pd.DataFrame, dict[str, int]]:
    """Look at every cached picture and name the pairs of different patients in different parts of the data.

    ``rows`` of the cache ``folder`` have ``id``, ``group``, ``shard``, ``slot`` and, where it is known, the raw pixels'
    ``crc``; ``part`` is each row's fold, -1 for test, int [rows]; ``distance`` the bits that may differ; ``workers`` hash.

    Returns:
        ``id``, ``group``, ``fold``, the same of the ``other``, ``kind`` (of ``EXACT``, ``same checksum`` or ``near``),
        ``mirrored``, ``distance`` in bits, ``correlation``; and counts of ``pictures``, ``empty``, ``pairs`` within the
        distance, and those ``left`` unconfirmed beyond ``MOST``.
    """
    hashes = hash_pictures(folder, rows, workers)
    group, read, kept = pd.factorize(rows["group"])[0], _reader(folder, rows), np.flatnonzero(hashes.shows)
    pairs = similar(hashes.words[:, kept], group[kept], part[kept], distance)
    pairs = pairs.assign(first=kept[pairs["first"]], second=kept[pairs["second"]], kind="near")
    raw = rows["crc"].to_numpy() if "crc" in rows else np.zeros(len(rows), int)
    exact = [_same(kind, crc, chosen, group, part) for kind, crc, chosen in (
        (EXACT[0], hashes.crc, kept), (EXACT[1], raw, kept[raw[kept] != 0]))]
    confirmed = _confirmed(read, pd.concat([*exact, pairs.head(MOST)], ignore_index=True))
    counts = {"pictures": len(rows), "empty": len(rows) - len(kept), "pairs": len(pairs), "left": max(len(pairs) - MOST, 0)}
    return _named(confirmed, rows, part), counts


def hash_pictures(folder: Place, rows: pd.DataFrame, workers: int = 1) -> Hashes:
    """Hash every picture of ``rows`` (``shard``, ``slot``) below ``folder``; the medians come from ``SAMPLE`` of them."""
    chosen = rows.sample(min(SAMPLE, len(rows)), random_state=0).sort_values(["shard", "slot"])
    medians = np.median(np.concatenate([one[:, 0] for one, _, _ in _coefficients(folder, chosen)]), axis=0)
    places = [np.flatnonzero(rows["shard"].to_numpy() == shard) for shard in rows["shard"].unique()]
    words = np.empty((len(SHIFTS) + 1, len(rows), LOW * LOW // 64), np.uint64)
    spread, crc = np.empty(len(rows), np.float32), np.empty(len(rows), np.uint32)
    with track(len(rows), "hash pictures") as steps:
        for number, made in in_processes(partial(_hash_shard, folder, medians), [rows.iloc[one] for one in places], workers):
            words[:, places[number]], spread[places[number]], crc[places[number]] = made
            steps.step(len(places[number]))
    return Hashes(words, spread, crc)


def similar(words: np.ndarray, group: np.ndarray, part: np.ndarray, distance: int) -> pd.DataFrame:
    """Pairs within ``distance`` bits whose ``group`` and ``part`` (int [pictures]) both differ.

    Hashes that differ in at most ``distance`` bits agree in one of ``distance + 1`` bands of them, so that comparing those
    that share a band finds every pair.

    Returns:
        ``first`` and ``second`` picture, the ``probe`` of the first that was nearest, and ``bits`` apart, nearest first.
    """
    bands = max(distance + 1, LOW * LOW // 60)
    pairs = [_in_band(words, range(band, LOW * LOW, bands), group, part, distance) for band in range(bands)]
    table = pd.DataFrame(np.concatenate(pairs), columns=["first", "second", "probe", "bits"]).sort_values(["bits", "probe"])
    ends = np.sort(table[["first", "second"]].to_numpy(), axis=1)
    return table[~pd.DataFrame(ends, index=table.index).duplicated()].reset_index(drop=True)


def _in_band(words: np.ndarray, band: range, group: np.ndarray, part: np.ndarray, distance: int) -> np.ndarray:
    """Int [pairs, 4]: first, second, probe, bits of the pairs that agree in the bits ``band``."""
    base = _keys(words[0], band)
    order = np.argsort(base, kind="stable")
    ordered, found = base[order], [np.empty((0, 4), np.int64)]
    for probe, own in enumerate(words):
        keys = _keys(own, band)
        low, high = (np.searchsorted(ordered, keys, side) for side in ("left", "right"))
        for first, place in _expanded(low, high - low):
            second = order[place]
            apart = (group[first] != group[second]) & (part[first] != part[second])
            first, second = first[apart], second[apart]
            bits = np.bitwise_count(own[first] ^ words[0][second]).sum(axis=1, dtype=np.int64)
            near = bits <= distance
            found.append(np.column_stack([first, second, np.full(len(first), probe), bits])[near])
    return np.concatenate(found)


def _keys(words: np.ndarray, band: range) -> np.ndarray:
    """The bits ``band`` of each hash as one number, int64 [pictures]."""
    keys = np.zeros(len(words), np.int64)
    for place, bit in enumerate(band):
        keys |= ((words[:, bit // 64] >> np.uint64(bit % 64)) & np.uint64(1)).astype(np.int64) << place
    return keys


def _expanded(start: np.ndarray, count: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(row, place) for the ``count`` places from ``start`` on of every row, about ``BLOCK`` pairs at a time."""
    rows = np.flatnonzero(count)
    ends = np.cumsum(count[rows])
    for piece in np.split(rows, np.flatnonzero(np.diff(ends // BLOCK)) + 1):
        number = count[piece]
        within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        yield np.repeat(piece, number), np.repeat(start[piece], number) + within


def _coefficients(folder: Place, rows: pd.DataFrame) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Normalized coefficients float32 [pictures, shifts, LOW * LOW], spread and CRC of ``CHUNK`` pictures at a time."""
    read = _reader(folder, rows)
    for start in range(0, len(rows), CHUNK):
        raw = [read(place) for place in range(start, min(start + CHUNK, len(rows)))]
        pictures = np.stack(raw).astype(np.float32)
        down, right = (_waves(side) for side in pictures.shape[1:])
        waves = (down.reshape(-1, down.shape[2]) @ pictures @ right.reshape(-1, right.shape[2]).T)
        waves = waves.reshape(len(raw), len(down), LOW, len(right), LOW)
        shifted = np.stack([waves[:, y + REACH, :, x + REACH] for y, x in SHIFTS], axis=1).reshape(len(raw), len(SHIFTS), -1)
        shifted[..., 0] = 0  # the mean; without it and the scale, brightness and contrast do not matter
        yield (shifted / np.maximum(np.linalg.norm(shifted, axis=2, keepdims=True), 1e-6), pictures.std(axis=(1, 2)),
               np.array([zlib.crc32(one.tobytes()) for one in raw], np.uint32))


@cache
def _waves(side: int) -> np.ndarray:
    """The first ``LOW`` cosines over the middle of ``side`` pixels, once a shift: float32 [2 * REACH + 1, LOW, side]."""
    from scipy.fft import dct

    inner = side - 2 * REACH
    cosines = np.zeros((2 * REACH + 1, LOW, side), np.float32)
    basis = dct(np.eye(inner), norm="ortho", axis=0)[:LOW]
    for shift, one in enumerate(cosines):
        one[:len(basis), shift:shift + inner] = basis
    return cosines


def _hash_shard(folder: Place, medians: np.ndarray, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words uint64 [probes, pictures, 4], spread and CRC of some rows."""
    flipped = np.tile((-1.0) ** np.arange(LOW), LOW).astype(np.float32)  # a mirrored cosine changes its sign if odd
    made = []
    for found, spread, crc in _coefficients(folder, rows):
        probes = np.concatenate([found, found[:, :1] * flipped], axis=1)
        words = np.packbits(probes > medians, axis=2, bitorder="little").view(np.uint64).transpose(1, 0, 2)
        made.append((words, spread, crc))
    stacks, spreads, crcs = zip(*made)
    return np.concatenate(stacks, axis=1), np.concatenate(spreads), np.concatenate(crcs)


def _reader(folder: Place, rows: pd.DataFrame) -> Read:
    """Row number -> its cached picture [height, width]."""
    shards = folder if isinstance(folder, Shards) else Shards(folder)
    shard, slot = rows["shard"].to_numpy(), rows["slot"].to_numpy()
    return lambda place: shards(int(shard[place]), int(slot[place]))


def _same(kind: str, crc: np.ndarray, chosen: np.ndarray, group: np.ndarray, part: np.ndarray) -> pd.DataFrame:
    """Pairs of the pictures ``chosen`` (row numbers) with one checksum whose group and part both differ."""
    table = pd.DataFrame({"first": chosen, "crc": crc[chosen], "group": group[chosen], "part": part[chosen]})
    table = table[table["crc"].duplicated(keep=False)]
    pairs = table.merge(table.rename(columns={"first": "second"}), on="crc", suffixes=("", "_other"))
    apart = (pairs["group"] != pairs["group_other"]) & (pairs["part"] < pairs["part_other"])
    return pairs.loc[apart, ["first", "second"]].assign(probe=0, bits=0, kind=kind)


def _confirmed(read: Read, pairs: pd.DataFrame) -> pd.DataFrame:
    """``pairs`` whose pixels bear their kind out, once each; one checksum and doubtful pixels are a kind of their own."""
    alike = np.zeros(len(pairs))
    with track(len(pairs), "compare pictures") as steps:
        for place, pair in enumerate(pairs.itertuples()):
            first, second = read(int(pair.first)), read(int(pair.second))
            probes = range(MIRRORED + 1) if pair.kind == EXACT[1] else [int(pair.probe)]
            equal = pair.kind != EXACT[0] or np.array_equal(first, second)
            alike[place] = max(correlation(first, second, probe) for probe in probes) if equal else 0.0
            steps.step()
    doubtful = ((pairs["kind"] == EXACT[1]) & (alike < ALIKE)).to_numpy()
    told = pairs.assign(correlation=alike, kind=pairs["kind"].where(~doubtful, "same checksum"))
    told = told[alike >= np.where(doubtful, CHANCE, ALIKE)]
    ends = pd.DataFrame(np.sort(told[["first", "second"]].to_numpy(), axis=1), index=told.index)
    return told[~ends.duplicated()]


def correlation(first: np.ndarray, second: np.ndarray, probe: int = 0) -> float:
    """Pearson correlation of ``second`` with ``first`` [height, width] shifted or mirrored as ``probe`` says."""
    first = first[:, ::-1] if probe == MIRRORED else first
    (y, x), (height, width) = SHIFTS[probe % MIRRORED], first.shape
    moved = first[max(y, 0):height + min(y, 0), max(x, 0):width + min(x, 0)]
    other = second[max(-y, 0):height + min(-y, 0), max(-x, 0):width + min(-x, 0)]
    spread = moved.std(dtype=np.float64) * other.std(dtype=np.float64)
    return float(np.corrcoef(moved.ravel(), other.ravel())[0, 1]) if spread > 0 else 0.0


def _named(pairs: pd.DataFrame, rows: pd.DataFrame, part: np.ndarray) -> pd.DataFrame:
    """The pairs as people read them."""
    people = rows[["id", "group"]].assign(fold=part)
    ends = [people.iloc[pairs[end]].reset_index(drop=True) for end in ("first", "second")]
    told = pairs.assign(mirrored=pairs["probe"] == MIRRORED, correlation=pairs["correlation"].round(4))
    told = told.rename(columns={"bits": "distance"})[["kind", "mirrored", "distance", "correlation"]]
    return pd.concat([ends[0], ends[1].add_prefix("other_"), told.reset_index(drop=True)], axis=1)
