"""Grad-CAM (Selvaraju 2017, doi:10.1109/ICCV.2017.74) of any network here: where a picture speaks for what is said of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from radstack.core.artifact import manifest_of
from radstack.core.files import read_json
from radstack.core.paths import Paths
from radstack.recipes.experiment import Experiment

if TYPE_CHECKING:  # seconds to import, and only the report's pictures need it
    import torch

    from radstack.nets.backbones import Net

KEPT = 5
"""Networks that stay loaded, one a fold."""
COARSE = 7
"""Pixels a side of a map that still tells a place: what ResNets have at the end for pictures of 224, the paper's. Of a small
picture the last map has 2 x 2 pixels, and one before is taken."""
NETS: "dict[tuple[str, int, str], Net]" = {}
"""What is loaded: file, its time of writing and device -> network."""


def heat(experiment: Experiment, targets: tuple[str, ...], weights: Path, rows: pd.DataFrame, row: int, target: str,
         cache: Any, device: "torch.device | None" = None) -> np.ndarray | None:
    """Where the picture of ``row`` of the table ``rows`` speaks for a higher output of ``target``, fp32, without views.

    Args:
        experiment: the recipe.
        targets: label columns that its network predicts, in order.
        weights: safetensors; loaded once for many calls.
        rows: a row table, of the row's own series at least.
        row: row number.
        target: one of ``targets``.
        cache: what the view reads from.
        device: a GPU where there is one, if None.

    Returns:
        float32 [height, width] of the view's size, 0 to 1 at the warmest place (0 everywhere where nothing speaks for
        it); None where the network pools no map (transformers of tokens), or answers in maps.
    """
    import torch

    from radstack.nets.objectives import objective
    from radstack.training.loader import columns_of, normalizer

    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    net = _loaded(experiment, targets, weights, place)
    picture = np.ascontiguousarray(experiment.view.reader(cache, rows)(row).transpose(2, 0, 1)[None])
    images = normalizer(experiment.view.mean, experiment.view.std, place)(torch.from_numpy(picture))
    told = torch.tensor(columns_of(rows.iloc[[row]], experiment.head.columns), device=place)
    with torch.enable_grad():
        features, outputs = last_map(net, images, told if told.shape[1] else None)
        if features is None or outputs.ndim != 2:
            return None
        # The score before the softmax or sigmoid, as in the paper, wherever each target has one of its own.
        alone = outputs.shape[1] == len(targets)
        scores = outputs if alone else objective(experiment.loss, targets).to(place).answer(outputs)
        gradient = torch.autograd.grad(scores[0, targets.index(target)], features)[0]
    return _grown(features.detach(), gradient, images.shape[2:])


def best_network(experiments: Sequence[Experiment], paths: Paths, fold: int) -> tuple[Experiment, Path] | None:
    """The experiment with the best score on ``fold``, or on any fold where that is below 0, and its weights.

    None where no network of that fold is kept, or its score is not known.
    """
    found = []
    for place, experiment in enumerate(experiments):
        folder = paths.weights / experiment.name
        for weights in sorted(folder.glob("fold*.safetensors")) if fold < 0 else [folder / f"fold{fold}.safetensors"]:
            score = _score(paths, weights) if weights.exists() else None
            if score is not None:
                found.append((score, place, experiment, weights))
    return min(found, key=lambda one: one[:2])[2:] if found else None


def _score(paths: Paths, weights: Path) -> float | None:
    """Score out of fold of a network: beside its table, in a bundle beside its weights."""
    table = (paths.home or paths.out) / "oof" / paths.name / weights.parent.name / f"{weights.stem}.parquet"
    if manifest_of(table).exists():
        return float(read_json(manifest_of(table)).get("score", np.inf))
    said = read_json(manifest_of(weights)) if manifest_of(weights).exists() else {}
    return float(said["score"]) if "score" in said else None


def last_map(net: "Net", images: "torch.Tensor",
             columns: "torch.Tensor | None" = None) -> "tuple[torch.Tensor | None, torch.Tensor]":
    """The trunk's last output that is a map, with its history, and what the network says of ``images``.

    The map is 4-D, of more than one pixel, before global pooling, and all that the network says passes through it; where
    there are such maps of ``COARSE`` pixels a side, it is the last of them. None where tokens come after the maps.
    """
    made: list[torch.Tensor] = []
    hooks = [module.register_forward_hook(lambda module, _, output: _note(made, module, output))
             for module in net.body.modules()]
    images = images.clone().requires_grad_()
    try:
        outputs = net(images, columns)
    finally:
        for hook in hooks:
            hook.remove()
    after_tokens = made[max((place + 1 for place, output in enumerate(made) if output.ndim == 3), default=0):]
    sides = [channels_first(output, images.shape[2:]).shape[2:] for output in after_tokens]
    maps = [output for output, side in zip(after_tokens[::-1], sides[::-1]) if max(side) > 1]
    fine = [output for output, side in zip(after_tokens[::-1], sides[::-1]) if min(side) >= COARSE]
    return next((output for output in (*fine, *maps) if not _around(outputs, output, images)), None), outputs


def class_map(features: "torch.Tensor", gradient: "torch.Tensor") -> "torch.Tensor":
    """Equations 1 and 2 of the paper: channels of ``features`` weighted by their mean ``gradient``, summed, negatives cut.

    Both are [1, channels, height, width], the gradient is that of the score; the result is [height, width].
    """
    return (gradient.mean((2, 3), keepdim=True) * features).sum(1)[0].relu()


def _grown(features: "torch.Tensor", gradient: "torch.Tensor", size: Sequence[int]) -> np.ndarray:
    """:func:`class_map` at the ``size`` of the picture, its largest value 1, float32."""
    from torch.nn import functional

    warm = class_map(channels_first(features, size), channels_first(gradient, size))[None, None]
    grown = functional.interpolate(warm, size=tuple(size), mode="bilinear", align_corners=False)[0, 0]
    return (grown / grown.max().clamp(min=1e-20)).cpu().numpy()


def channels_first(made: "torch.Tensor", size: Sequence[int]) -> "torch.Tensor":
    """``made`` as [1, channels, height, width], which has the shape of a picture of ``size``; some transformers put the
    channels last.
    """
    first, last = (abs(np.log(made.shape[at] * size[1] / (made.shape[at + 1] * size[0]))) for at in (2, 1))
    return made.permute(0, 3, 1, 2) if last < first else made


def _note(made: "list[torch.Tensor]", module: Any, output: Any) -> None:
    """Add the ``output`` of a ``module`` to ``made`` if it is a map, or tokens [1, tokens, channels]."""
    import torch
    from torch import nn

    pools = isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d)
    if isinstance(output, torch.Tensor) and not pools and (output.ndim == 4 or (output.ndim == 3 and output.shape[1] > 1)):
        made.append(output)


def _around(outputs: "torch.Tensor", features: "torch.Tensor", images: "torch.Tensor") -> bool:
    """Whether ``outputs`` depend on ``images`` by a way around ``features``, as past one branch of a residual block."""
    seen, left = {features.grad_fn}, [outputs.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        if getattr(node, "variable", None) is images:
            return True
        seen.add(node)
        left += [before for before, _ in node.next_functions]
    return False


def _loaded(experiment: Experiment, targets: tuple[str, ...], weights: Path, device: "torch.device") -> "Net":
    from radstack.training.inference import load_net

    key = (str(weights), weights.stat().st_mtime_ns, str(device))
    if key not in NETS:
        if len(NETS) >= KEPT:
            NETS.pop(next(iter(NETS)))
        NETS[key] = load_net(experiment, targets, weights, device)
    return NETS[key]
