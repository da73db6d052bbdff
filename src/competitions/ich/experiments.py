"""The full recipes: those of the four-network write-up, three of the first place, one of today; on call a small one.

Where a number of the write-up is lost (its learning rates were pictures), it is the nearest public source's; the note of
each recipe says whose. Scores named are stage-1 validation.
"""

from competitions.ich.views import means_of_three, neighbors, three_windows
from radstack.core.recipe import change
from radstack.recipes.experiment import Backbone, Experiment, Op, Optim, Sampling, Schedule, Train
from radstack.recipes.losses import BinaryCrossEntropy
from radstack.recipes.sequence import DeltasBilstm, Sequence, TwoLevel
from radstack.recipes.stacker import Stacker

METRIC_LOSS = BinaryCrossEntropy(class_weights=(1, 1, 1, 1, 1, 2), rare_class="epidural", rare_weight=2.0)
"""The competition's metric as the loss; epidural (0.4 % of slices) counts double."""

LEARNED = 'brain_range > 60 and hu_flag == ""'
"""Slices that are learned from: with some brain, and nothing against their Hounsfield units (``hu.doubts``). To learn from
doubtful ones as well: ``--set sampling.keep="brain_range > 60"``. All slices get an answer."""

RARE_COPIES = Sampling(rare_class="epidural", rare_copies=3, keep=LEARNED)
"""Epidural slices four times an epoch, each augmented differently."""

SECOND_PLACE_AUGMENT = (
    Op("HorizontalFlip", {"p": 0.5}),
    Op("VerticalFlip", {"p": 0.5}),
    Op("Transpose", {"p": 0.5}),
    Op("Affine", {"translate_percent": (-0.05, 0.05), "scale": (0.95, 1.05), "rotate": (-20, 20), "p": 0.3}),
    Op("RandomBrightnessContrast", {"brightness_limit": 0.08, "contrast_limit": 0.08, "p": 0.5}),
)

RESNEXT101 = Experiment(
    name="resnext101_wsl",
    view=three_windows(480),
    backbone=Backbone("timm/resnext101_32x8d.fb_wsl_ig1b_ft_in1k"),
    augment=SECOND_PLACE_AUGMENT,
    loss=METRIC_LOSS,
    optim=Optim("adam", lr=2e-5),
    sampling=RARE_COPIES,
    train=Train(epochs=6, batch_size=64, precision="fp16"),
    tta=("plain", "hflip", "transpose"),
    note="write-up 0.084; lr, batch, size, augmentation and TTA of the second place (darraghdog)",
)

INCEPTION = change(
    RESNEXT101,
    name="inception_v3",
    view=three_windows(299),
    backbone__name="timm/inception_v3.tf_in1k",
    loss__label_smoothing=0.02,
    optim__lr=3e-4,
    schedule=Schedule("exponential", gamma=0.8),
    train__epochs=5,
    note="write-up 0.078; lr 3e-4 x 0.8 an epoch as in public notebooks; smoothing 0.02, for the 0.1 of the "
         "network's paper teaches 0.05 for a sure negative, which alone costs 0.051",
)

EFFICIENTNET = change(
    RESNEXT101,
    name="efficientnet_b3",
    view=three_windows(300),
    backbone__name="efficientnet_pytorch/efficientnet-b3",
    optim__lr=1e-4,
    schedule=Schedule("cosine", warmup=0.25),
    train__epochs=6,
    train__ema=0.9998,
    note="write-up 0.076; lr 1e-4 after a warm-up; EMA decay as timm's",
)

SE_RESNEXT50 = change(
    RESNEXT101,
    name="se_resnext50",
    view=three_windows(512),
    backbone__name="pretrainedmodels/se_resnext50_32x4d",
    augment=(
        Op("RandomResizedCrop", {"scale": (0.7, 1.0), "ratio": (0.9, 1.1), "p": 1.0}),
        Op("HorizontalFlip", {"p": 0.5}),
        Op("Rotate", {"limit": 30, "p": 0.7}),
        Op("RandomBrightnessContrast", {"brightness_limit": 0.08, "contrast_limit": 0.08, "p": 0.5}),
    ),
    optim__lr=6e-5,
    optim__clip_norm=1.0,
    schedule=Schedule("exponential", gamma=2 / 3),
    train__epochs=3,
    train__batch_size=32,
    tta=("plain", "hflip", "crop90"),
    note="write-up 0.071; numbers of the public code it came from; the clipping threshold is not given there",
)

DENSENET121 = change(
    RESNEXT101,
    name="densenet121_neighbors",
    view=neighbors(256),
    backbone__name="torchvision/densenet121",
    augment=(
        Op("RandomResizedCrop", {"scale": (0.6, 0.99), "ratio": (0.9, 1.1), "p": 0.5}),
        Op("HorizontalFlip", {"p": 0.5}),
        Op("Rotate", {"limit": 30, "p": 0.5}),
        Op("Erasing", {"scale": (0.02, 0.4), "p": 0.3}),
    ),
    optim__lr=5e-4,
    schedule=Schedule("cyclic", floor=0.02, cycle=10.0),
    sampling=Sampling(rare_class="epidural", rare_copies=3, per_series=4, keep=LEARNED),
    train__epochs=80,
    tta=("plain", "hflip", "crop90", "channel_reverse"),
    note="first place (SeuTao), stage 1: 0.064; four random slices a series an epoch, lr 5e-4 to 1e-5 in cycles",
)

DENSENET169 = change(DENSENET121, name="densenet169_neighbors", backbone__name="torchvision/densenet169",
                     note="first place, stage 1: 0.064")

SE_RESNEXT101 = change(
    DENSENET121,
    name="se_resnext101_neighbors2",
    view=neighbors(256, step=2),
    backbone__name="pretrainedmodels/se_resnext101_32x4d",
    note="first place, stage 1: 0.062; neighbors two apart as the third place (okotaku)",
)

CONVNEXT = change(
    RESNEXT101,
    name="convnextv2_tiny",
    view=means_of_three(384),
    backbone=Backbone("timm/convnextv2_tiny.fcmae_ft_in22k_in1k_384", args={"drop_path_rate": 0.1}),
    optim=Optim("adamw", lr=1e-4, weight_decay=0.05, clip_norm=1.0),
    schedule=Schedule("cosine", warmup=0.5, floor=0.01),
    train=Train(epochs=6, batch_size=64, precision="bf16", ema=0.9998),
    note="a network of 2023 in the recipe its authors fine-tune with; no published score on these data",
)

EXPERIMENTS = (RESNEXT101, INCEPTION, EFFICIENTNET, SE_RESNEXT50, DENSENET121, DENSENET169, SE_RESNEXT101, CONVNEXT)

LITE0 = change(
    RESNEXT101,
    name="lite0",
    view=change(three_windows(256), mean=(127.5,) * 3, std=(127.5,) * 3),
    backbone=Backbone("pypi/efficientnet_lite0", dropout=0.2),
    optim=Optim("adamw", lr=5e-4, weight_decay=0.01, clip_norm=1.0),
    schedule=Schedule("cosine", warmup=0.25, floor=0.01),
    train=Train(epochs=6, batch_size=32, precision="bf16"),
    tta=("plain", "hflip"),
    note="small, with an ImageNet start from a package at PyPI, which knows pictures by mean and deviation 0.5; numbers are "
         "a first guess and not tuned",
)

ON_CALL = (LITE0,)

BILSTM = Sequence(
    name="resnext101_bilstm",
    members=("resnext101_wsl",),
    model=DeltasBilstm(),
    lr=1e-5, gamma=0.95, epochs=12, bag=12, batch_size=4, precision="fp16",
    note="second place: 2.5-D system; private leaderboard 0.044",
)

TWO_LEVEL = Sequence(
    name="two_level",
    members=tuple(experiment.name for experiment in EXPERIMENTS),
    model=TwoLevel(),
    lr=3e-4, gamma=0.1, milestones=(20, 30), epochs=40, bag=1, batch_size=128, crop=24, reverse=0.5, every_second=0.5,
    reverse_tta=True, precision="fp16",
    note="first place: 0.054 in stage 1, private leaderboard 0.04383",
)

SEQUENCES = (BILSTM, TWO_LEVEL)


def stackers(networks: tuple[str, ...], sequences: tuple[str, ...], lightgbm: dict[str, object],
             forest: dict[str, object]) -> tuple[Stacker, ...]:
    """Level two over ``networks`` and ``sequences``; ``lightgbm`` and ``forest`` are the trees' settings.

    ``final`` is a calibrated, weighted blend of everything that can win; ``vote`` only measures what the write-up's series
    vote costs.
    """
    everyone = (*networks, *sequences)
    strong = (*sequences, "blend", "smooth", "lightgbm", "forest")
    return (
        Stacker("mean", "mean", networks),
        Stacker("blend", "weights", networks, note="the write-up's weighted mean; its weights are lost"),
        Stacker("smooth", "smooth", ("blend",), note="second place's log: 0.0658 to 0.0649 at 256 pixels"),
        Stacker("lightgbm", "lightgbm", everyone, lightgbm, note="eleventh place (appian42), third place (okotaku)"),
        Stacker("forest", "forest", everyone, forest),
        Stacker("climb", "climb", (*everyone, "lightgbm", "forest"), note="Caruana 2004"),
        Stacker("weighted", "weights", strong),
        Stacker("final", "calibrate", ("weighted",), {"margin": 2.0}),
        Stacker("any_raised", "raise_any", ("final",), note="p_any >= the largest subtype: measured, not submitted"),
        Stacker("vote", "vote", ("final",), note="the write-up's series vote: an ablation"),
    )


def few_stackers(networks: tuple[str, ...], sequences: tuple[str, ...], lightgbm: dict[str, object],
                 forest: dict[str, object]) -> tuple[Stacker, ...]:
    """Level two likewise for tens of patients: each model is shrunk, and ``final`` is what cross-fitting chooses.

    What is kept of a model is the shrunk one, ``<name>_shrunk``, which is not worse than the constant predictor. Networks
    are averaged as they are: a mean needs less mending than its members, and mends what is worse than the constant. Each
    is smoothed alone, too, for one of them may be better than their mean.
    """
    shrunk = {name: f"{name}_shrunk" for name in (*networks, *sequences)}
    smooth = {name: f"{name}_smooth" for name in networks}
    wide = {"kernel": (1, 2, 3, 2, 1)}  # slices of 5 mm: blood spans several
    candidates = ("smooth", "smooth_wide", *smooth.values(), *(shrunk[name] for name in sequences), "lightgbm", "forest")
    return (
        *(Stacker(new, "shrink", (name,)) for name, new in shrunk.items()),
        Stacker("mean", "mean", networks),
        Stacker("smooth", "smooth", ("mean",)),
        Stacker("smooth_wide", "smooth", ("mean",), wide),
        *(Stacker(new, "smooth", (name,), wide) for name, new in smooth.items()),
        Stacker("lightgbm", "lightgbm", tuple(shrunk.values()), lightgbm),
        Stacker("forest", "forest", tuple(shrunk.values()), forest),
        Stacker("final", "choose", candidates),
        Stacker("any_raised", "raise_any", ("final",), note="p_any >= the largest subtype: measured, not submitted"),
    )


EXTRA_FEATURES = ("brain_ratio", "brain_range", "head_share")
STACKERS = stackers(tuple(experiment.name for experiment in EXPERIMENTS),
                    tuple(sequence.name for sequence in SEQUENCES),
                    {"columns": EXTRA_FEATURES}, {"columns": EXTRA_FEATURES})
