"""Networks of four sources as one module: shapes, channels, gradients, and agreement with the source's own forward."""

import copy

import pytest
import torch

from radstack.core.errors import UserError
from radstack.nets import Net, backbones, build
from radstack.nets.optim import optimizer
from radstack.nets.sources import SOURCES, pretrainedmodels_body, torchvision_body
from radstack.recipes.experiment import Backbone, Optim

SMALL_EFFICIENTNET = {"width_coefficient": 0.25, "depth_coefficient": 0.25}
SMALL = {
    "timm/test_resnet.r160_in1k": {},
    "timm/test_efficientnet": {},
    "torchvision/mobilenet_v3_small": {},
    "pretrainedmodels/resnet18": {},
    "efficientnet_pytorch/efficientnet-b0": SMALL_EFFICIENTNET,
}
FULL = {
    "timm/resnext101_32x8d.fb_wsl_ig1b_ft_in1k": 2048,
    "torchvision/inception_v3": 2048,
    "timm/inception_v3.tf_adv_in1k": 2048,
    "pretrainedmodels/inceptionv3": 2048,
    "efficientnet_pytorch/efficientnet-b3": 1536,
    "pretrainedmodels/se_resnext50_32x4d": 2048,
    "pretrainedmodels/se_resnext101_32x4d": 2048,
    "torchvision/densenet121": 1024,
    "torchvision/densenet169": 1664,
    "pretrainedmodels/densenet121": 1024,
    "timm/convnextv2_atto.fcmae_ft_in1k": 320,
    "timm/tf_efficientnetv2_b0.in1k": 1280,
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def untrained(name: str, args: dict | None = None, channels: int = 3, **fields) -> Net:
    return build(Backbone(name, pretrained=False, args=args or {}, **fields), outputs=6, channels=channels)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", SMALL)
def test_small_nets_step_on_any_channels(name, channels):
    net = untrained(name, SMALL[name], channels)
    images = torch.randn(2, channels, 64, 64)
    assert net.embed(images).shape == (2, net.width)
    logits = net(images)
    assert logits.shape == (2, 6)
    logits.square().sum().backward()
    assert [key for key, p in net.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", SMALL)
def test_pictures_of_any_size(name):
    net = untrained(name, SMALL[name]).eval()
    assert net(torch.randn(1, 3, 96, 64)).shape == (1, 6)


def test_forward_is_the_head_on_the_embedding():
    net = untrained("timm/test_resnet", dropout=0.5)
    images = torch.randn(2, 3, 64, 64)
    net.eval()
    torch.testing.assert_close(net(images), net.head(net.embed(images)))
    net.train()
    assert not torch.equal(net(images), net(images)), "dropout is off in training"


def test_logits_are_float32_under_autocast():
    net = untrained("timm/test_resnet").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        logits, features = net(images), net.embed(images)
    assert features.dtype == torch.bfloat16 and logits.dtype == torch.float32
    torch.testing.assert_close(logits, net.head(features.float()))


@pytest.mark.parametrize("name", ["efficientnet_b0", "inception_v3"])
def test_the_sources_own_dropout_is_gone(name):
    last = [module for module in torchvision_body(name, 3, {}).net.modules() if isinstance(module, torch.nn.Dropout)]
    assert last == []


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "bninception", "nasnetamobile"])
def test_pretrainedmodels_pooling_agrees_with_its_own_at_the_native_size(name):
    import pretrainedmodels

    full = getattr(pretrainedmodels, name)(num_classes=1000, pretrained=None).eval()
    body = pretrainedmodels_body(name, 3, {})
    body.net.load_state_dict(full.state_dict(), strict=False)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = full(images)
        torch.testing.assert_close(full.last_linear(body.pooled(body.net.eval(), images)), expected)


def test_torchvision_embedding_agrees_with_its_own_logits():
    import torchvision

    full = torchvision.models.resnet18(weights=None).eval()
    body = torchvision_body("resnet18", 3, {})
    body.net.load_state_dict(full.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(full.fc(body.pooled(body.net.eval(), images)), full(images))


def test_arguments_reach_the_constructor():
    assert untrained("timm/test_resnet", {"block_args": {}}).width == 96
    wide = untrained("efficientnet_pytorch/efficientnet-b0", {"width_coefficient": 0.5, "depth_coefficient": 0.25})
    assert wide.width > untrained("efficientnet_pytorch/efficientnet-b0", SMALL_EFFICIENTNET).width


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("tim/resnet18", {}, "no source of networks 'tim'; did you mean 'timm'"),
        ("timm/resnet_18", {}, "'resnet18'"),
        ("timm/resnet18.a1_in1", {}, "'resnet18.a1_in1k'"),
        ("pretrainedmodels/se_resnext50", {}, "'se_resnext50_32x4d'"),
        ("pretrainedmodels/vgg16", {}, "no pretrainedmodels model 'vgg16'"),
        ("torchvision/densnet121", {}, "'densenet121'"),
        ("efficientnet_pytorch/efficientnet_b3", {}, "'efficientnet-b3'"),
        ("timm/test_resnet", {"droppath": 1}, "check backbone.args"),
        ("efficientnet_pytorch/efficientnet-b0", {"width": 1}, "check backbone.args"),
    ],
)
def test_unknown_names_name_the_nearest(name, args, says):
    with pytest.raises(UserError, match=says) as error:
        untrained(name, args)
    assert "\n" not in str(error.value)


def test_every_source_lists_what_the_recipes_use():
    for name in (*SMALL, *FULL):
        source, _, model = name.partition("/")
        assert model in SOURCES[source].names()


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_full_recipe_nets_step_once(name):
    net = untrained(name)
    size = 80 if "inception" in name else 64
    logits = net(torch.randn(2, 3, size, size))
    logits.square().sum().backward()
    assert net.width == FULL[name]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_frozen_modules_keep_their_weights_and_statistics_and_the_others_learn():
    net = build(Backbone("timm/test_efficientnet.r160_in1k", pretrained=False, frozen=("conv_stem", "bn1", "blocks.0")), 2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    recipe = Optim("adamw", lr=1e-2, weight_decay=0.1)
    step = optimizer(recipe, net)
    net(torch.randn(4, 3, 64, 64)).square().sum().backward()
    step.step()
    still = {name for name, value in net.state_dict().items() if torch.equal(value, before[name])}
    frozen = {name for name in before if name.startswith(("body.conv_stem.", "body.bn1.", "body.blocks.0."))}
    assert frozen <= still
    assert {"head.weight", "body.conv_head.weight", "body.bn2.running_mean"} <= set(before) - still
    net.eval().train()
    assert not net.body.bn1.training and net.body.bn2.training


def test_frozen_modules_see_few_pictures_at_once_and_answer_as_of_all(monkeypatch):
    seen = []
    net = build(Backbone("timm/test_efficientnet.r160_in1k", pretrained=False, frozen=("conv_stem", "bn1", "blocks.0")), 2)
    net.body.get_submodule("blocks.0")[0].register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    net, images = net.to(memory_format=torch.channels_last).eval(), torch.randn(5, 3, 64, 64)
    whole = copy.deepcopy(net)(images)
    monkeypatch.setattr(backbones, "PIECE", 2 * net.body.bn1(net.body.conv_stem(images))[0].numel())
    torch.testing.assert_close(copy.deepcopy(net)(images), whole)
    assert seen == [5, 2, 2, 1]


def test_an_unknown_module_to_freeze_names_the_nearest():
    with pytest.raises(UserError, match="module for backbone.frozen, 'conv_stm'.*'conv_stem'"):
        build(Backbone("timm/test_efficientnet.r160_in1k", pretrained=False, frozen=("conv_stm",)), 2)
