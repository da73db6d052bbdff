"""A series in the report's browser: its slices, what was said of each, and what the best network looked at."""

from typing import Any

import cv2
import numpy as np

from competitions.ich import head, hu
from competitions.ich.labels import TARGETS
from radstack.core.paths import Paths
from radstack.images import windows
from radstack.images.dicom import Unreadable, read_stored
from radstack.images.shards import Shards, crop_square
from radstack.recipes.competition import Cases
from radstack.report.blocks import Block, Picture, Slices
from radstack.report.cases import Case
from radstack.report.images import data_uri, overlaid, sheet
from radstack.report.plots import COLORS, INK, SOFT, curves, legend_above, svg
from radstack.scoring.metrics import log_losses

SIDE, LARGE = 192, 320
"""Of a slice in the stack, and of one that is shown alone, in pixels: a series of forty slices takes 0.4 MB."""
NAMED = 0.1
"""Probability from which a label is named."""
SHOWN = ("brain", "subdural", "bone")
"""Windows of a slice that is shown alone."""
LABELED = COLORS[1]
"""The page's own color of positive slices."""


def view(case: Case, cases: Cases, paths: Paths) -> list[Block]:
    """The series as a stack with curves; the slices where the final model errs most and is surest, with Grad-CAM."""
    target = main_target(case, cases.final)
    said = np.nan_to_num(case.predicted[cases.final])
    costly = log_losses(_truth(case), said) if case.labeled else said  # without labels the surest slice is the first to see
    worst = int(costly[:, TARGETS.index(target)].argmax())
    return [_stack(case, cases, paths, target, worst), *_alone(case, cases, paths, target, worst)]


def main_target(case: Case, final: str) -> str:
    """The subtype that the series has and ``final`` misjudges most; where it has none, the one that seems most likely."""
    truth, said = _truth(case)[:, :-1], np.nan_to_num(case.predicted[final])[:, :-1]
    if not case.labeled:
        return TARGETS[int(said.max(axis=0).argmax())]
    held = truth.any(axis=0)
    lost = log_losses(truth, said).mean(axis=0)
    return TARGETS[int(np.where(held, lost, -1.0).argmax() if held.any() else said.max(axis=0).argmax())]


def _truth(case: Case) -> np.ndarray:
    return case.rows[list(TARGETS)].to_numpy(np.float64)


def _stack(case: Case, cases: Cases, paths: Paths, target: str, start: int) -> Slices:
    """All slices in the brain window, and curves of ``target`` along them."""
    cache = Shards(paths.cache)
    series = [pixels(paths, cache, row, SIDE) for row in case.rows.itertuples()]
    frames = [windows.apply(one, [hu.WINDOWS["brain"]])[..., 0] for one in series]
    across = min(len(frames), 8)
    wrong = (np.abs(case.predicted[cases.final] - _truth(case)) > 0.5).any(axis=1)
    marks = ["wrong" if missed else "true" if any_ else "" for missed, any_ in zip(wrong, case.rows["any"] > 0.5)]
    marked = ("; the bar below marks the slices labeled so. Framed in orange: slices labeled with a hemorrhage; dashed "
              f"red: {cases.final} is on the wrong side of one half for one of the labels.") if case.labeled else "."
    caption = (f"Brain window, slices from the base upward. Curves: probability of {target} by each network and by "
               f"{cases.final} (thick){marked}")
    return Slices(data_uri(sheet(frames, across)), len(frames), across, tuple(_captions(case, cases.final, target)),
                  tuple(marks), _curves(case, cases, target), caption, start)


def pixels(paths: Paths, cache: Shards, row: Any, side: int) -> np.ndarray:
    """A slice as it is cached, HU int16 [side, side]; cut from the file itself where that can still be read, as the cache of
    small networks is too coarse to read.
    """
    try:
        stored, header = read_stored(paths.input / row.path)
    except Unreadable:
        return cv2.resize(cache(row.shard, row.slot), (side, side), interpolation=cv2.INTER_LINEAR)
    whole = head.remove_head_rest(hu.to_hu(stored, header))
    return crop_square(whole, row.top, row.left, row.side, side, hu.LOWEST)


def _captions(case: Case, final: str, target: str) -> list[str]:
    """One line a slice: its labels, and what ``final`` says of these, of ``target`` and of all that it finds likely."""
    lines = []
    for place, (row, truth, said) in enumerate(zip(case.rows.itertuples(), _truth(case), case.predicted[final])):
        held = [name for name, label in zip(TARGETS, truth) if label > 0.5]
        told = [(name, p) for name, p in zip(TARGETS, said) if p >= NAMED or (name in (*held, target) and np.isfinite(p))]
        words = ", ".join(f"{name} {p:.2f}" for name, p in sorted(told, key=lambda one: -one[1]))
        labels = f" Labeled: {', '.join(held) or 'none'}." if case.labeled else ""
        lines.append(f"Slice {place} ({row.id}).{labels} {final}: {words}.")
    return lines


def _curves(case: Case, cases: Cases, target: str) -> str:
    place, slices = TARGETS.index(target), np.arange(len(case.rows))
    networks = [one for one in cases.experiments if np.isfinite(case.predicted[one.name][:, place]).any()]
    made, ax = curves(len(slices), {one.name: case.predicted[one.name][:, place] for one in networks}, 2.1, LABELED)
    ax.plot(slices, case.predicted[cases.final][:, place], color=INK, linewidth=2.6, label=cases.final)
    if case.labeled:
        ax.stairs(-0.12 + 0.07 * (_truth(case)[:, place] > 0.5), np.arange(len(slices) + 1) - 0.5, baseline=-0.12, fill=True,
                  color=LABELED, label=f"labeled {target}")
    ax.axhline(0.5, color=SOFT, linewidth=1, linestyle=":")
    ax.set(ylim=(-0.14, 1.03), yticks=[0, 0.5, 1], ylabel=f"probability of\n{target}", xlabel="slice, from the base upward")
    legend_above(ax)
    return svg(made)


def _alone(case: Case, cases: Cases, paths: Paths, target: str, worst: int) -> list[Picture]:
    """The slice ``worst`` and, if it is another, the one that is given ``target`` with the highest probability."""
    said = case.predicted[cases.final][:, TARGETS.index(target)]
    surest = int(np.nan_to_num(said).argmax())
    reasons = {worst: "loses most on"} if case.labeled else {}
    reasons |= {surest: "is surest of"} if surest not in reasons else {}
    return [_picture(case, cases, paths, target, place, f"Slice {place}, where {cases.final} {reason} {target}:")
            for place, reason in reasons.items()]


def _picture(case: Case, cases: Cases, paths: Paths, target: str, place: int, why: str) -> Picture:
    """A slice in three windows and, beside the brain window, what the best network of the fold looked at."""
    row = next(case.rows.iloc[[place]].itertuples())
    three = windows.apply(pixels(paths, Shards(paths.cache), row, LARGE), [hu.WINDOWS[name] for name in SHOWN])
    panels = [_named(three[..., number], name) for number, name in enumerate(SHOWN)]
    said = case.predicted[cases.final][place, TARGETS.index(target)]
    label = f", labeled {'positive' if getattr(row, target) > 0.5 else 'negative'}" if case.labeled else ""
    caption = f"{why} given {said:.2f}{label}."
    looked = _looked(case, cases, paths, target, place)
    if looked is None:
        return Picture(data_uri(sheet(panels, 3)), caption)
    heat, network, own = looked
    warm = overlaid(three[..., 0], cv2.resize(heat, (LARGE, LARGE)), 0.5)
    panels.insert(1, _named(warm, "Grad-CAM"))
    return Picture(data_uri(sheet(panels, 2)),
                   f"{caption} Grad-CAM: what speaks for {target} to {network}, the best network{case.which_fold}, which "
                   f"gives {own:.2f}; colors are relative to this slice, so that a low probability glows as well.")


def _looked(case: Case, cases: Cases, paths: Paths, target: str, place: int) -> tuple[np.ndarray, str, float] | None:
    """Heat of a slice, the network's name and its probability; None where there is none."""
    from radstack.report.gradcam import best_network, heat

    best = best_network(cases.experiments, paths, case.fold)
    if best is None:
        return None
    experiment, weights = best
    answered = experiment.targets_of(TARGETS)
    if target not in answered:
        return None
    warm = heat(experiment, answered, weights, case.rows.reset_index(drop=True), place, target, Shards(paths.cache))
    return None if warm is None else (warm, experiment.name, case.predicted[experiment.name][place, TARGETS.index(target)])


def _named(picture: np.ndarray, name: str) -> np.ndarray:
    """``picture`` (gray or RGB uint8) as RGB with ``name`` in its corner."""
    rgb = picture.copy() if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    return cv2.putText(rgb, name, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
