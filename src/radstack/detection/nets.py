"""Faster R-CNN of torchvision on a trunk of choice: losses of joint and alternating training, one box a class, weights."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from radstack.core.errors import UserError, reason
from radstack.core.files import replacing
from radstack.detection.trunks import ANYWHERE, Weights, trunk
from radstack.images.boxes import Prior
from radstack.images.similarity import resized, warp
from radstack.recipes.detector import Detector, FourSteps

Targets = list[dict[str, torch.Tensor]]
"""``boxes`` float32 [n, 4] and ``labels`` int64 [n], from 1, of each picture."""
Autocast = Callable[[], AbstractContextManager[Any]]
"""Opens a context in which torch computes in low precision."""
BEFORE_NMS = 3
"""Times the proposals kept, this many of the best go into non-maximum suppression (6000 for 2000 in Ren 2015)."""


def build(recipe: Detector, weights: Weights = ANYWHERE) -> tuple[FasterRCNN, str]:
    """Make the network of ``recipe``; return it and where its trunk's weights come from.

    A UserError for an unknown trunk or argument, anchors that do not fit its maps, or weights that cannot be had or fitted.
    """
    base = trunk(recipe, weights)
    if len(recipe.anchors) != base.anchored or len({len(sizes) for sizes in recipe.anchors}) > 1:
        raise UserError(f"{recipe.trunk} has {base.anchored} maps, and anchors={recipe.anchors} names sizes for "
                        f"{len(recipe.anchors)}; give one tuple a map, all of one length")
    sizes = tuple(tuple(share * recipe.short_side for share in one) for one in recipe.anchors)
    width: int = base.net.out_channels  # type: ignore[assignment]
    net = FasterRCNN(
        base.net, min_size=recipe.short_side, max_size=recipe.long_side, image_mean=base.mean, image_std=base.std,
        rpn_anchor_generator=AnchorGenerator(sizes, (recipe.ratios,) * base.anchored),
        rpn_pre_nms_top_n_train=BEFORE_NMS * recipe.proposals[0], rpn_post_nms_top_n_train=recipe.proposals[0],
        rpn_pre_nms_top_n_test=BEFORE_NMS * recipe.proposals[1], rpn_post_nms_top_n_test=recipe.proposals[1],
        rpn_nms_thresh=recipe.nms[0], rpn_batch_size_per_image=recipe.sampled[0],
        box_roi_pool=MultiScaleRoIAlign(list(base.pooled), recipe.roi, sampling_ratio=2),
        box_head=TwoMLPHead(width * recipe.roi**2, recipe.dense),
        box_predictor=FastRCNNPredictor(recipe.dense, len(recipe.classes) + 1), box_score_thresh=recipe.least_score,
        box_nms_thresh=recipe.nms[1], box_batch_size_per_image=recipe.sampled[1])
    return net, base.start


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one optimizer."""

    iterations: int
    learn: tuple[str, ...]
    """Of ``first`` (a trunk for proposals alone), ``trunk``, ``rpn`` and ``heads``; the others stand still."""
    proposer: str = "trunk"
    """Whose maps the proposals are made on."""
    afresh: bool = False
    """The proposal layers start anew: they were learned on another trunk's maps."""


def phases(recipe: Detector) -> tuple[Phase, ...]:
    """The one phase of joint training, or the four of Ren 2015."""
    if not isinstance(recipe.schedule, FourSteps):
        return (Phase(recipe.schedule.iterations, ("trunk", "rpn", "heads")),)
    one, two, three, four = recipe.schedule.iterations
    return (Phase(one, ("first", "rpn"), "first"), Phase(two, ("trunk", "heads"), "first"),
            Phase(three, ("rpn",), afresh=True), Phase(four, ("heads",)))


def parts(net: FasterRCNN, first: nn.Module) -> nn.ModuleDict:
    """What phases name."""
    return nn.ModuleDict({"first": first, "trunk": net.backbone, "rpn": net.rpn, "heads": net.roi_heads})


def losses(modules: nn.ModuleDict, phase: Phase, images: ImageList, targets: Targets,
           autocast: Autocast) -> dict[str, torch.Tensor]:
    """The losses of what ``phase`` learns (Ren 2015, equation 1), float32, of a batch as ``net.transform`` leaves it.

    What stands still must not ask for gradients (``requires_grad``); then no graph is kept of it.
    """
    seen = _maps(modules[phase.proposer], images, autocast)
    proposals, found = modules["rpn"](images, seen, targets)
    if "heads" not in phase.learn:
        return found
    shown = seen if phase.proposer == "trunk" else _maps(modules["trunk"], images, autocast)
    _, named = modules["heads"](shown, proposals, images.image_sizes, targets)
    return named | (found if "rpn" in phase.learn else {})


def _maps(base: nn.Module, images: ImageList, autocast: Autocast) -> dict[str, torch.Tensor]:
    # Only the trunk runs in low precision: torchvision would round anchors and boxes to it, by 4 pixels at 600 in bfloat16.
    with autocast():
        maps = base(images.tensors)
    maps = {"0": maps} if isinstance(maps, torch.Tensor) else maps
    return {name: one.float() for name, one in maps.items()}


def shrunk(shape: tuple[int, ...], recipe: Detector) -> tuple[float, tuple[int, int]]:
    """Scale, and height and width after it, that bring a picture of ``shape`` (height, width) to the recipe's sides."""
    scale = min(recipe.short_side / min(shape), recipe.long_side / max(shape))
    return scale, (max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1))


def as_input(picture: np.ndarray, net: FasterRCNN, device: torch.device) -> torch.Tensor:
    """uint8 [height, width] to float32 [channels, height, width] in 0..1 on ``device``; gray is repeated where need be."""
    gray = torch.from_numpy(np.ascontiguousarray(picture)).to(device).float() / 255
    return gray.expand(len(net.transform.image_mean), -1, -1)


@torch.inference_mode()
def detect(net: FasterRCNN, recipe: Detector, pictures: Iterable[np.ndarray],
           device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """The best box of each class: float32 [pictures, classes, 4] in pixels of each picture, and scores [pictures, classes].

    ``pictures`` are uint8 [height, width] of any sizes. NaN in both where nothing reaches ``recipe.least_score``.
    """
    net.to(device).eval()
    found = [_best(net, recipe, picture, device) for picture in pictures]
    table = np.array(found, np.float32).reshape(-1, len(recipe.classes), 5)
    return table[..., :4], table[..., 4]


def _best(net: FasterRCNN, recipe: Detector, picture: np.ndarray, device: torch.device) -> np.ndarray:
    """Box and score of each class: [classes, 5]."""
    scale, size = shrunk(picture.shape, recipe)
    answer = net([as_input(warp(picture, resized(scale), size), net, device)])[0]
    table = np.full((len(recipe.classes), 5), np.nan)
    # Scores come in falling order, so that the last one written is the best.
    for box, label, score in reversed(list(zip(*(answer[name].cpu().numpy() for name in ("boxes", "labels", "scores"))))):
        table[label - 1] = [*box / scale, score]
    return table


def write_detector(path: Path, net: FasterRCNN, prior: Prior) -> None:
    """Write the weights, and the prior as two tensors more, as safetensors; atomically."""
    state = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    prior_state = {f"prior.{name}": torch.from_numpy(value) for name, value in vars(prior).items()}
    with replacing(path) as part:
        save_file(state | prior_state, part)


def read_detector(path: Path, recipe: Detector) -> tuple[FasterRCNN, Prior]:
    """Undo :func:`write_detector`; a UserError where the file is missing or damaged, or does not fit the recipe."""
    net, _ = build(recipe, Weights(wanted=False))
    try:
        state = load_file(path)
        prior = Prior(state.pop("prior.place").numpy(), state.pop("prior.relative").numpy())
        net.load_state_dict(state)
    except Exception as error:  # safetensors, the file system and torch each fail in their own way
        raise UserError(f"{path} is not the detector {recipe.name} ({reason(error)}); train it again") from error
    return net, prior
