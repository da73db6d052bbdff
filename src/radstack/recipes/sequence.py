"""A Sequence is a recipe of the level between networks and stackers: it reads a series' slices in order.

The defaults are the second place of RSNA 2019 (darraghdog): one network's embeddings with their deltas through two
BiLSTMs, Adam 1e-5 x 0.95 an epoch, 12 epochs all averaged, 4 series a step. The first place (SeuTao) is::

    Sequence(name, members, model=TwoLevel(), lr=3e-4, gamma=0.1, milestones=(20, 30), epochs=40, bag=1,
             batch_size=128, crop=24, reverse=0.5, every_second=0.5, reverse_tta=True)
"""

from dataclasses import dataclass, field

from radstack.core.errors import UserError
from radstack.core.recipe import REMARK
from radstack.recipes.losses import BinaryCrossEntropy, Regression


@dataclass(frozen=True)
class DeltasBilstm:
    """Embedding and its differences to both neighbors through two BiLSTMs (RSNA 2019 second place)."""

    hidden: int = 0
    """LSTM units a direction; 0 for the embedding's width, as published (2048), where the embedding is added as it is.
    Any other size maps the embedding linearly before it is added."""
    dropout: float = 0.0
    """Share of embedding channels dropped for a whole series."""


@dataclass(frozen=True)
class TwoLevel:
    """GRU over embeddings, then dilated convolutions and a GRU over probabilities (RSNA 2019 first place)."""

    project: tuple[int, int] = (512, 128)
    """Widths of the two 1x1 convolutions that shrink each member's embedding."""
    hidden: int = 96
    """GRU units a direction, in both levels."""
    layers: int = 2
    """GRU layers, in both levels."""
    filters: tuple[int, int, int, int] = (512, 256, 256, 256)
    """Widths of the four convolutions over slices (kernel 5; then kernel 3 with dilation 2, 4, 2)."""
    dropout: float = 0.5
    """Share of channels dropped for a whole series, before, between and after the 1x1 convolutions."""


@dataclass(frozen=True)
class Attention:
    """Gated attention over the slices' embeddings, one answer a series (Ilse 2018, attention-based deep MIL)."""

    hidden: int = 64
    """Units of the layer before the attention, and of its gate."""
    dropout: float = 0.25
    """Share of embedding channels dropped for a whole series."""


@dataclass(frozen=True)
class Sequence:
    """A recipe over the embeddings and out-of-fold probabilities of level-one experiments."""

    name: str
    """Folder below ``oof/``."""
    members: tuple[str, ...]
    """Experiments it reads. The second place used one a model, the first place all of them in one."""
    model: DeltasBilstm | TwoLevel | Attention = DeltasBilstm()
    """Its class chooses the network, its fields the sizes."""
    loss: BinaryCrossEntropy | Regression = field(default_factory=BinaryCrossEntropy)
    """Probabilities, weighted as in the metric where it names no weights, or values."""
    space: str = "own"
    """How embeddings of the folds' networks are related. ``own``: fold k's model reads fold k's network for every row;
    nothing of fold k is ever seen, but the network knows the training rows by heart. ``procrustes``: each training row
    is read from the network that held it out, rotated into fold k's space; honest embeddings, but the networks behind
    them were trained on fold k (as in any stack)."""
    logits: bool = False
    """Append the members' out-of-fold logits to each slice's embedding."""
    lr: float = 1e-5
    """Adam's learning rate in the first epoch."""
    gamma: float = 0.95
    """Factor on the learning rate after each epoch, or at each of ``milestones`` when there are any."""
    milestones: tuple[int, ...] = ()
    """Epochs that start with a ``gamma`` times lower rate."""
    epochs: int = 12
    """Fixed; no choice on the scored fold. With ``inner`` the most."""
    inner: int = 0
    """Parts of the training patients. Each is held out once, and what the others learn says after how many epochs to end;
    then all train for as many. For few patients, of whom a model soon knows each by heart; 0 for none."""
    bag: int = 12
    """Predictions of this many last epochs are averaged."""
    batch_size: int = 4
    """Series an optimizer step."""
    crop: int = 0
    """Longest run of slices trained on, cut at random; 0 for whole series."""
    reverse: float = 0.0
    """Probability of reading a training series backward."""
    every_second: float = 0.0
    """Probability of training on every second slice of a series (of more than ten, as the first place did)."""
    reverse_tta: bool = False
    """Predict forward and backward and average."""
    clip_norm: float = 1.0
    """Global gradient norm limit; 0 for none."""
    precision: str = "fp16"
    """``fp32``, ``bf16`` or ``fp16`` (with gradient scaler, GPU only); the loss is always fp32."""
    seed: int = 0
    """Seed of initialization, order, augmentation and dropout, with the fold and the epoch."""
    note: str = field(default="", metadata=REMARK)
    """Where the numbers come from."""

    def __post_init__(self) -> None:
        """Refuse a recipe that would predict nothing."""
        if min(self.epochs, self.bag, self.batch_size) < 1:
            raise UserError(f"{self.name}: epochs, bag and batch_size must be at least 1")
        if self.inner < 0 or self.inner == 1:
            raise UserError(f"{self.name}: inner is {self.inner}; take 2 parts or more, or 0 for none")
        if isinstance(self.loss, Regression) and (self.logits or isinstance(self.model, TwoLevel)):
            raise UserError(f"{self.name}: logits and TwoLevel read the members' probabilities, and values have none")
        if isinstance(self.loss, Regression) and self.loss.line:
            raise UserError(f"{self.name}: loss.line is for networks of pictures; set it to false")
