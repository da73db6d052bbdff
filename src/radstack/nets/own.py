"""Networks of the source ``radstack``: written here, published by nobody, so always trained from scratch.

The functions of ``OWN`` make them: two stacks of convolutions with dense layers (with batch norm, and from before it), two
U-Nets (skips by concatenation, and by addition), the down half of the latter, and a U-Net of volumes.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise

import torch
from torch import nn
from torch.nn import functional

from radstack.core.errors import UserError
from radstack.core.registry import pick
from radstack.nets.body import Body, Origin, Pooled, State, whole

WIDTHS = (32, 64, 128, 128, 256, 384)
"""Channels of the six blocks: Iglovikov 2018 prints five numbers, the authors' code (neuro-inc/ml-recipe-bone-age) repeats
128."""
PADDINGS: dict[str, tuple[str, bool]] = {"same": ("same", False), "valid": ("valid", False), "valid_ceil": ("valid", True)}
"""Name -> padding of the convolutions as torch names it, and whether a pool keeps the last odd row and column."""
LAST = ("head", "given_columns", "hidden")
"""Layers after the trunk in a weights file of this program's own."""


def vgg_elu(channels: int, *, size: tuple[int, int], widths: tuple[int, ...] = WIDTHS, second: int = 1,
            dense: tuple[int, ...] = (2048, 2048), dropout: float = 0.3) -> Body:
    """Blocks of convolution 3x3, ELU, batch norm, convolution, ELU, batch norm, max pool 3x3 of stride 2; dense layers.

    The regression network of Iglovikov 2018, by its authors' later code where the paper is silent. ``size`` is the picture's
    height and width, on which the dense layers depend, ``widths`` are the channels of each block. ``second`` is the kernel
    of the second convolution: the code has 1, the paper's net for key points 3. ``dense`` are the units of the layers that
    end the trunk, each with ELU and, before it, dropout at a rate of ``dropout``. A UserError where nothing is left of the
    picture, or the second kernel is even.
    """
    height, width = vgg_sizes(size, len(widths))[-1]
    if second % 2 == 0:
        raise UserError(f"radstack/vgg_elu: second={second} has no center; use 1 or 3 in backbone.args")
    blocks = [_vgg_block(before, after, second) for before, after in pairwise((channels, *widths))]
    units = (height * width * widths[-1], *dense)
    layers = (nn.Sequential(nn.Dropout(dropout), nn.Linear(before, after), nn.ELU(inplace=True))
              for before, after in pairwise(units))
    return body_of(_Sized("vgg_elu", size, blocks, layers), units[-1])


def vgg_sizes(size: Sequence[int], blocks: int) -> list[tuple[int, int]]:
    """Height and width after each of ``blocks`` pools 3x3 of stride 2 without padding; nothing left is a UserError."""
    height, width = size
    sizes = []
    for _ in range(blocks):
        height, width = (height - 3) // 2 + 1, (width - 3) // 2 + 1
        sizes.append((height, width))
    if min(height, width) < 1:
        raise UserError(f"radstack/vgg_elu: {blocks} blocks leave nothing of a picture of {size[0]} x {size[1]}; name "
                        "fewer widths or a larger size in backbone.args")
    return sizes


def plain(channels: int, *, size: tuple[int, int] = (128, 96),
          convs: Sequence[tuple[int, int]] = ((32, 7), (64, 5), (64, 3), (32, 3)), dense: tuple[int, ...] = (4096, 1024),
          padding: str = "same", dropout: float = 0.5) -> Body:
    """Blocks of convolution, ReLU and max pool 2x2; dense layers with ReLU and dropout; Xavier uniform, zero biases.

    The nine networks by which the maturity of the distal radius and ulna was graded in crops of 128 x 96 (Theano/Lasagne,
    whose ``GlorotUniform`` is the initialization); the defaults are its third. Dropout follows each dense layer's ReLU as
    in AlexNet (Krizhevsky 2012), so that ``backbone.dropout`` stays 0.

    ``size`` is the picture's height and width, on which the dense layers depend, ``convs`` are channels and kernel of each
    convolution, ``dense`` the units of the layers that end the trunk. The ``padding`` ``same`` keeps the size, ``valid``
    does not pad, ``valid_ceil`` does not pad either, but pools what is left over. A UserError where the padding is unknown,
    or a layer has no channels, units or kernel, or leaves nothing.
    """
    if min((1, *(number for conv in convs for number in conv), *dense)) < 1:
        raise UserError(f"radstack/plain: convs={convs}, dense={dense} hold numbers below 1; mend backbone.args")
    height, width = plain_sizes(size, [kernel for _, kernel in convs], padding)[-1]
    mode, ceil = PADDINGS[padding]
    widths = (channels, *(made for made, _ in convs))
    blocks = [nn.Sequential(nn.Conv2d(before, after, kernel, padding=mode), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=ceil))
              for (before, after), (_, kernel) in zip(pairwise(widths), convs)]
    units = (height * width * widths[-1], *dense)
    layers = (nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)) for before, after in pairwise(units))
    return body_of(_Sized("plain", size, blocks, layers).apply(_xavier), units[-1])


def plain_sizes(size: Sequence[int], kernels: Sequence[int], padding: str = "same") -> list[tuple[int, int]]:
    """Height and width of the picture ``size`` and after each block of a convolution with that kernel and a pool 2x2.

    A UserError for an unknown padding, or the layer that leaves nothing of the picture.
    """
    mode, ceil = pick(PADDINGS, padding, "padding for radstack/plain,")
    sizes = [(size[0], size[1])]
    for number, kernel in enumerate(kernels, start=1):
        before = sizes[-1]
        mapped = before if mode == "same" else tuple(side - kernel + 1 for side in before)
        height, width = ((side + ceil) // 2 for side in mapped)
        for layer, (y, x) in (("convolution", mapped), ("pool", (height, width))):
            if min(y, x) < 1:
                raise UserError(f"radstack/plain: {layer} {number} (kernel {kernel}, padding={padding}) leaves {max(y, 0)} "
                                f"x {max(x, 0)} of {before[0]} x {before[1]}; set padding to same or valid_ceil, fewer "
                                "convs or a larger size in backbone.args")
        sizes.append((height, width))
    return sizes


class _Sized(nn.Module):
    """Blocks and dense layers that know which size they were made for."""

    def __init__(self, name: str, size: Sequence[int], blocks: Iterable[nn.Module], dense: Iterable[nn.Module]) -> None:
        super().__init__()
        self.name, self.size = name, tuple(size)
        self.blocks, self.dense = nn.Sequential(*blocks), nn.Sequential(nn.Flatten(), *dense)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if tuple(images.shape[2:]) != self.size:
            raise UserError(f"radstack/{self.name} was made for pictures of {self.size}, not {tuple(images.shape[2:])}; set "
                            "size in backbone.args to that of the view")
        return self.dense(self.blocks(images))


def _vgg_block(before: int, after: int, second: int) -> nn.Sequential:
    first = nn.Conv2d(before, after, 3, padding=1)
    other = nn.Conv2d(after, after, second, padding=second // 2)
    for convolution in (first, other):
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(first, nn.ELU(inplace=True), nn.BatchNorm2d(after),
                         other, nn.ELU(inplace=True), nn.BatchNorm2d(after), nn.MaxPool2d(3, stride=2))


def unet(channels: int, *, widths: tuple[int, ...] = (32, 64, 128, 256, 512), norm: bool = True) -> Body:
    """U-Net with batch norm (Ronneberger 2015, with padding, so that the map has the picture's size).

    ``widths`` are the channels at full size, at half of it ...; height and width must divide by 2 for each but the first.
    Without ``norm`` its convolutions have biases instead.
    """
    return body_of(Unet(channels, widths, norm), widths[0], dense=True)


def unet_volume(channels: int, *, slices: int, widths: tuple[int, ...] = (16, 32, 64, 128)) -> Body:
    """U-Net of volumes (Çiçek 2016), with instance norm, since a batch holds few volumes (Isensee 2021).

    A volume is a picture of its ``slices`` one above the other, and so is its map; the height must divide by their number.
    ``widths`` are the channels at full size, at half of it ...; a direction with an odd number of voxels stays as it is.
    """
    return body_of(VolumeUnet(channels, slices, widths), widths[0], dense=True)


def unet_sum(channels: int, *, width: int = 32, depth: int = 4, dropout: float = 0.5, growth: float = 1.0) -> Body:
    """U-Net of blocks convolution 3x3, ELU, convolution, ELU without batch norm, with skips by addition.

    Model A of Pietz 2018 (pietz/knee-mri-segmentation): 194,561 parameters for one channel and one output. Its others are
    B width 16, growth 1.5 (332,398), C 48, 1 (436,993), D 8, 2 (491,113) and E 32, 1.5 (1,327,645).

    The size is halved ``depth`` times, so that height and width must divide by 2^depth; :func:`grow` gives the channels.
    ``dropout`` is the rate between the two convolutions of the middle block, the one at the least size.
    """
    return body_of(SumUnet(channels, grow(width, depth, growth), dropout), width, dense=True)


def unet_sum_encoder(channels: int, *, width: int = 32, depth: int = 4, dropout: float = 0.5, growth: float = 1.0) -> Body:
    """Down half and middle of :func:`unet_sum` with a global mean, the age network of Pietz 2018; arguments as there.

    A file of a whole ``unet_sum`` of the same arguments fits: name it in ``backbone.weights``.
    """
    widths = grow(width, depth, growth)
    way_up = ("up", "join", "body.up", "body.join")
    return body_of(SumEncoder(channels, widths, dropout), widths[-1], lambda net, images: net(images).mean((2, 3)), way_up)


def grow(width: int, depth: int, growth: float) -> tuple[int, ...]:
    """Channels at full size and after each of ``depth`` halvings, each ``growth`` times those before, rounded down.

    A UserError where a block is left without channels, or nothing is halved.
    """
    widths = list(accumulate(range(depth), lambda before, _: int(growth * before), initial=width))
    if depth < 1 or min(widths) < 1:
        raise UserError(f"radstack/unet_sum: width={width}, depth={depth}, growth={growth} give the channels "
                        f"{widths}; take at least one halving and one channel in backbone.args")
    return tuple(widths)


class Unet(nn.Module):
    """Down by pooling, up by transposed convolutions, joined by concatenation; features at full size."""

    def __init__(self, channels: int, widths: tuple[int, ...], norm: bool = True) -> None:
        super().__init__()
        block = _norm_block if norm else _plain_block
        self.down = nn.ModuleList(block(*pair) for pair in pairwise((channels, *widths)))
        upward = list(pairwise(widths[::-1]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, flat, 2, stride=2) for deep, flat in upward)
        self.join = nn.ModuleList(block(2 * flat, flat) for _, flat in upward)
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [batch, widths[0], height, width]; a size that does not halve is a UserError."""
        _check_halves("unet", images, len(self.up), "widths")
        features, kept = self.down[0](images), []
        for block in list(self.down)[1:]:
            kept.append(features)
            features = block(self.pool(features))
        for up, join in zip(self.up, self.join):
            features = join(torch.cat([kept.pop(), up(features)], 1))
        return features


class SumEncoder(nn.Module):
    """Down half and middle of :class:`SumUnet`, with the same keys; the deepest features."""

    def __init__(self, channels: int, widths: tuple[int, ...], dropout: float) -> None:
        """Make it for pictures of ``channels``; the last of ``widths`` is the middle's, between whose two is ``dropout``."""
        super().__init__()
        *flat, deep = widths
        self.down = nn.ModuleList(_elu_block(*pair) for pair in pairwise((channels, *flat)))
        self.middle = _elu_block(flat[-1], deep, dropout)
        self.pool = nn.MaxPool2d(2)
        self.apply(_xavier)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [batch, widths[-1], height / 2^depth, width / 2^depth]."""
        return self.descend(images)[0]

    def descend(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The deepest features, and those that each pooling took, from full size down."""
        features, kept = images, []
        for block in self.down:
            kept.append(block(features))
            features = self.pool(kept[-1])
        return self.middle(features), kept


class SumUnet(SumEncoder):
    """U-Net without batch norm that adds what it kept rather than concatenating it; features at full size."""

    def __init__(self, channels: int, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__(channels, widths, dropout)
        upward = list(pairwise(widths[::-1]))
        # Each goes to exactly twice the size.
        self.up = nn.ModuleList(nn.Sequential(nn.ConvTranspose2d(deep, flat, 3, stride=2, padding=1, output_padding=1),
                                              nn.ELU(inplace=True)) for deep, flat in upward)
        self.join = nn.ModuleList(_elu_block(flat, flat) for _, flat in upward)
        self.apply(_xavier)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [batch, widths[0], height, width]; a size that does not halve is a UserError."""
        _check_halves("unet_sum", images, len(self.up), "depth")
        features, kept = self.descend(images)
        for up, join in zip(self.up, self.join):
            features = join(kept.pop() + up(features))
        return features


class VolumeUnet(nn.Module):
    """Down by pooling, up by repeating voxels, joined by concatenation, all in three dimensions."""

    def __init__(self, channels: int, slices: int, widths: tuple[int, ...]) -> None:
        """Make it for volumes of ``slices``."""
        super().__init__()
        self.slices = slices
        self.down = nn.ModuleList(_volume_block(*pair) for pair in pairwise((channels, *widths)))
        self.join = nn.ModuleList(_volume_block(deep + flat, flat) for deep, flat in pairwise(widths[::-1]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [batch, widths[0], slices * height, width]; another number of slices is a UserError."""
        if images.shape[2] % self.slices:
            raise UserError(f"radstack/unet_volume was made for {self.slices} slices one above the other, and a height of "
                            f"{images.shape[2]} does not divide by them; set slices in backbone.args")
        features, kept = self.down[0](images.unflatten(2, (self.slices, -1))), []
        for block in list(self.down)[1:]:
            kept.append(features)
            features = block(functional.max_pool3d(features, [2 - length % 2 for length in features.shape[2:]]))
        for join in self.join:
            before = kept.pop()
            features = join(torch.cat([before, functional.interpolate(features, size=before.shape[2:])], 1))
        return features.flatten(2, 3)


def _norm_block(before: int, after: int) -> nn.Sequential:
    # Batch norm takes the mean away, and a bias with it.
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
                         nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _plain_block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True),
                         nn.Conv2d(after, after, 3, padding=1), nn.ReLU(inplace=True))


def _volume_block(before: int, after: int) -> nn.Sequential:
    def layers(channels: int) -> list[nn.Module]:
        convolution = nn.Conv3d(channels, after, 3, padding=1, bias=False)
        return [convolution, nn.InstanceNorm3d(after, affine=True), nn.ReLU(inplace=True)]

    return nn.Sequential(*layers(before), *layers(after))


def _elu_block(before: int, after: int, dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ELU(inplace=True), nn.Dropout(dropout),
                         nn.Conv2d(after, after, 3, padding=1), nn.ELU(inplace=True))


def _xavier(module: nn.Module) -> None:
    """Start as Theano and Keras do: uniform weights (Glorot 2010), biases 0; PyTorch's are 0.58 of them in size."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


def _check_halves(name: str, images: torch.Tensor, times: int, argument: str) -> None:
    part = 2**times
    if images.shape[2] % part or images.shape[3] % part:
        raise UserError(f"radstack/{name} halves {times} times and takes sizes that divide by {part}, not "
                        f"{tuple(images.shape[2:])}; change the view's size or {argument} in backbone.args")


def body_of(net: nn.Module, width: int, pooled: Pooled = whole, cut: tuple[str, ...] = (), dense: bool = False) -> Body:
    """The body of a network of our own with ``width`` features; ``cut`` names keys that files have and ``net`` lacks."""

    def trunk_of(state: State) -> State:
        """Out of a whole network's file, as stage 04 writes it."""
        return {key.removeprefix("body."): value for key, value in state.items()}

    return Body(net, width, pooled, LAST + cut, Origin("", ""), trunk_of, dense)


OWN: dict[str, Callable[..., Body]] = {
    "vgg_elu": vgg_elu, "unet": unet, "unet_sum": unet_sum, "unet_sum_encoder": unet_sum_encoder, "plain": plain,
    "unet_volume": unet_volume,
}
