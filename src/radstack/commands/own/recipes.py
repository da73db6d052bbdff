"""Networks, sequence models and stackers for one's own table: a start that holds on few rows, to be changed by hand."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from radstack.core.paths import Paths
from radstack.core.recipe import change
from radstack.images.own.pictures import PREPARED, SOFT, prepare
from radstack.images.own.source import CLASSES_KIND, GROUP_SIZE, LABELS_KIND, NUMBER_KIND, Source
from radstack.images.shards import Shards
from radstack.images.views import Box
from radstack.recipes.baseline import PLACE, Baseline
from radstack.recipes.competition import CacheRecipe, Data, Models, Pages
from radstack.recipes.experiment import LITE0_FIRST, Backbone, Experiment, Head, Op, Optim, Sampling, Schedule, Train
from radstack.recipes.localizer import Chain
from radstack.recipes.losses import BinaryCrossEntropy, LossRecipe, Ordinal, Regression, SoftmaxCrossEntropy
from radstack.recipes.sequence import DeltasBilstm, Sequence
from radstack.recipes.stacker import Stacker

GRAY = 127.5
"""Mean and deviation of gray levels that the pretrained ``lite0`` knows."""
COLORS = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Those that networks of timm know."""
LITE0 = "pypi/efficientnet_lite0"
FAMILIES = {"resnet50": "timm/resnet50.a1_in1k", "efficientnetv2_s": "timm/tf_efficientnetv2_s.in21k_ft_in1k",
            "convnext_tiny": "timm/convnext_tiny.in12k_ft_in1k"}
"""Name -> backbone of the full recipes, a family each."""
TINY = {"resnet": "timm/test_resnet", "byobnet": "timm/test_byobnet"}
"""Those of the small recipes where no pretrained weights are there."""
HEADER = ("height", "width", "bits")
"""What a header says of every picture, for the model without pixels."""
SHIFTS = Op("Affine", {"translate_percent": (-0.05, 0.05), "scale": (0.9, 1.1), "rotate": (-15, 15), "p": 0.8})
LIGHT = Op("RandomBrightnessContrast", {"brightness_limit": 0.1, "contrast_limit": 0.1, "p": 0.5})
AUGMENT = (Op("HorizontalFlip", {"p": 0.5}), SHIFTS, LIGHT)
"""No flip upside down: most radiographs have a top."""
WIDE = (
    Op("HorizontalFlip", {"p": 0.5}),
    Op("Affine", {"translate_percent": (-0.1, 0.1), "scale": (0.8, 1.2), "rotate": (-20, 20), "p": 1.0}),
    Op("RandomGamma", {"gamma_limit": (60, 160), "p": 0.7}),
    Op("RandomBrightnessContrast", {"brightness_limit": 0.2, "contrast_limit": 0.3, "p": 0.5}),
)
"""For pictures of which each patient has one or few, which vary in place, size and tone as radiographs do."""
FEW = 1000
"""Patients below which a probe stands beside the trained networks."""
PROBE_SIDE, PENALTIES = 224, (3.0, 1.0, 0.3, 0.1, 0.03)
"""Pixels that a probe sees, and the penalties of its last layer that are tried."""
WIDE_KERNEL = (1, 2, 3, 2, 1)
"""Weights of a slice and its neighbors: on real heads better than three slices, for each model that was smoothed."""
ROWS, ACROSS = 4, 6
"""Rows of a case's pictures, and pictures in a row."""
DRAWN = 8
"""Slices of each series that an epoch visits: neighbors are alike."""


def loss_of(source: Source) -> LossRecipe:
    """The loss that fits the kind of task."""
    sizes = tuple(len(words) for words in source.labels.values())
    if source.kind == NUMBER_KIND:
        center, scale = next(iter(source.labels.values()))
        return Regression(float(center), float(scale))
    if source.kind == LABELS_KIND:
        return BinaryCrossEntropy()
    return SoftmaxCrossEntropy(sizes) if source.kind == CLASSES_KIND else Ordinal(sizes)


def network(source: Source, side: int, name: str, backbone: str, cached: int, **edits: Any) -> Experiment:
    """One network on whole pictures of ``side`` pixels out of a cache of ``cached``; ``edits`` as ``change`` takes them."""
    own = backbone.startswith("timm/test_")
    mean, std = ((GRAY,) * 3,) * 2 if backbone == LITE0 or own else COLORS
    rate = 3e-3 if own else 1e-3 if source.kind == NUMBER_KIND else 4e-4
    start = Experiment(
        name=name,
        view=Box((0, 0, cached, cached), (side, side), mean, std),
        backbone=Backbone(backbone, pretrained=not own, dropout=0.0 if own else 0.2),
        augment=AUGMENT,
        head=Head(columns=source.inputs),
        loss=loss_of(source),
        optim=Optim("adamw", lr=rate, weight_decay=0.01, clip_norm=1.0),
        schedule=Schedule("cosine", warmup=0.5, floor=0.01),
        train=Train(epochs=10, batch_size=16, precision="fp32"),
        tta=("plain", "hflip"),
    )
    return change(start, **edits)


def small_networks(source: Source, side: int, cached: int, rows: int, groups: int,
                   pretrained: bool) -> tuple[Experiment, ...]:
    """Networks that two cores train: ``lite0`` where its weights are there, else two small ones from scratch.

    ``rows`` pictures of ``groups`` patients are known. Of few, each is visited more often, and several networks a fold are
    averaged: on 62 heads, seeds of one recipe differ as much as recipes do. Neighboring slices are alike: an epoch draws
    some of each series, and few epochs are enough, since more make networks overconfident.
    """
    visits = min(rows, DRAWN * groups) if source.order else rows
    epochs = int(np.clip((3_000 if source.order else 12_000) / max(visits, 1), 6, 20))
    sampling = Sampling(per_series=DRAWN if source.order else 0, weight="weight" if source.weight else "")
    names = {"lite0": LITE0} if pretrained else TINY
    seeds = int(np.clip(18_000 // max(epochs * visits, 1), 1, 3)) if pretrained else 1
    own = {} if source.order or not pretrained else {"backbone__frozen": LITE0_FIRST, "augment": WIDE}
    trained = tuple(network(source, side, name, backbone, cached, sampling=sampling, train__epochs=epochs,
                            train__seeds=seeds, **own) for name, backbone in names.items())
    return (*trained, probe_of(source, cached)) if is_probed(source, groups, pretrained) else trained


def is_probed(source: Source, groups: int, pretrained: bool) -> bool:
    """Whether a probe stands beside the trained networks: ages want more than the features of photographs tell."""
    return pretrained and groups < FEW and source.kind != NUMBER_KIND


def probe_of(source: Source, cached: int) -> Experiment:
    """The pretrained ``lite0`` as it is: of few patients its last layer alone learns nothing by heart, and more pixels cost
    little.
    """
    weight = Sampling(weight="weight" if source.weight else "")
    side = min(cached, PROBE_SIDE)
    return network(source, side, "frozen", LITE0, cached, augment=(), head=Head(), sampling=weight, probe=PENALTIES)


def full_networks(source: Source, side: int, cached: int) -> tuple[Experiment, ...]:
    """Three families of backbones, for a GPU."""
    return tuple(network(source, side, name, backbone, cached, optim__lr=1e-4,
                         train=Train(epochs=20, batch_size=32, precision="bf16", ema=0.999),
                         sampling=Sampling(weight="weight" if source.weight else ""))
                 for name, backbone in FAMILIES.items())


def sequence_of(source: Source, member: Experiment) -> tuple[Sequence, ...]:
    """A BiLSTM over a group's pictures in order; none where no column orders them or the loss is of classes."""
    loss = loss_of(source)
    if not source.order or not isinstance(loss, BinaryCrossEntropy | Regression):
        return ()
    return (Sequence("bilstm", (member.name,), DeltasBilstm(hidden=16, dropout=0.5), loss, "procrustes",
                     logits=source.kind == LABELS_KIND, lr=1e-3, gamma=0.8, epochs=5, bag=3, batch_size=4,
                     precision="fp32"),)


def models_of(source: Source, networks: tuple[Experiment, ...]) -> Models:
    """``networks``, their sequence model and their stackers; the last of these, ``final``, is submitted.

    ``metadata`` sees no pixels: what it reaches, a network reaches without looking.
    """
    sequences = sequence_of(source, networks[0])
    first = (networks[0].name,)
    metadata = Stacker("metadata", "columns", first, {"columns": (*HEADER, *source.inputs)},
                       note="the size and depth of a picture, its place in its series, and the table's columns")
    by_kind: dict[str, tuple[str, dict[str, Any]]] = {LABELS_KIND: ("choose", {}), NUMBER_KIND: ("linear", {})}
    how, args = by_kind.get(source.kind, ("class_mean", {"groups": tuple(len(words) for words in source.labels.values())}))
    smooth = [Stacker(f"{one.name}_smooth", "smooth", (one.name,), {"kernel": WIDE_KERNEL},
                      note="neighboring slices say alike things")
              for one in networks if source.order and source.kind == LABELS_KIND]
    members = (*(one.name for one in smooth or networks), *(one.name for one in sequences))
    everyone = members if how == "class_mean" else (*members, metadata.name)
    blend = Stacker("blend" if source.several else "final", how, everyone, args)
    last = (Stacker("final", "series_average", ("blend",)),) if source.several else ()
    return Models(networks, (metadata, *smooth, blend, *last), final="final", sequences=sequences)


def data_of(source: Source) -> Data:
    """How the stages index and read the pictures of the table."""
    return Data(source.index, source.label_files, source.sample_file, small_picture, partial(balance, source),
                index_new=source.index_new, recipe=source)


def balance(source: Source, rows: pd.DataFrame) -> pd.DataFrame:
    """0/1 columns that the folds share evenly: the targets, or of numbers their quarters."""
    targets = rows[list(source.targets)]
    if source.kind != NUMBER_KIND:
        return targets
    first = targets.iloc[:, 0]
    edges = np.unique(first.quantile([0.25, 0.5, 0.75]))
    return pd.get_dummies(pd.Series(np.digitize(first, edges), rows.index)).astype(int).add_prefix("quarter ")


def pages_of(source: Source, grouped: bool = False) -> Pages:
    """What the report shows beside the scores: a case is a series, with the pictures as the networks see them.

    Rows of the score table that see no picture: with an order, the place in it; where patients have several pictures
    (``grouped``), what their number says, which is all that is known of a patient before a picture was seen.
    """
    simple = [Baseline("position", (PLACE,))] if source.order else []
    simple += [Baseline("group_prior", (GROUP_SIZE,))] if grouped else []
    return Pages(case_by="series" if source.order or source.several else "id", case_view=view, baselines=tuple(simple))


def view(case: Any, cases: Any, paths: Paths) -> list[Any]:
    """The cached pictures of a case, up to ``ROWS`` rows that lie evenly over it."""
    from radstack.report.blocks import Picture
    from radstack.report.images import data_uri, sheet

    count = len(case.rows)
    shown = case.rows.iloc[np.linspace(0, count - 1, min(count, ROWS * ACROSS)).round().astype(int)]
    pictures = [Shards(paths.cache)(int(row.shard), int(row.slot)) for row in shown.itertuples()]
    grid = sheet(pictures, across=min(ACROSS, len(pictures)))
    return [Picture(data_uri(grid), f"{len(shown)} of {count} pictures, as they are cached", wide=len(pictures) > 1)]


def squares(side: int, window: tuple[float, float] = SOFT, crop: bool = False) -> Chain:
    """No anatomy is looked for: each picture is shrunk to a square of ``side`` pixels, CT by ``window``.

    With ``crop`` it is first cut to what stands on its empty background.
    """
    return Chain(side, partial(prepare, window=window, crop=crop, version=PREPARED), (), nothing, show)


def cached(side: int) -> CacheRecipe:
    """The cache of :func:`squares`."""
    return CacheRecipe((side, side), fill=0, by=(), dtype="uint8")


def nothing(row: Any, picture: np.ndarray, maps: np.ndarray) -> dict[str, Any]:
    """The columns of a picture in which nothing was looked for."""
    return {"flag": ""}


def small_picture(paths: Paths, row: Any, recipe: CacheRecipe) -> np.ndarray:
    """What is cached: the square of stage 02, uint8 [side, side]."""
    return Shards(paths.cache / "prepared")(int(row.map_shard), int(row.map_slot))


def show(paths: Paths, row: Any, picture: np.ndarray, maps: np.ndarray, file: Any) -> None:
    """Write the square of one picture."""
    import cv2

    cv2.imwrite(str(file), picture)
