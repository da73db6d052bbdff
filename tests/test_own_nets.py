"""Our own networks: the article's shapes and sizes, maps, what joins the features, one step each; and turned views."""

import math

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from radstack.core.errors import UserError
from radstack.images.views import Whole
from radstack.nets import Dense, Net, build
from radstack.nets.objectives import objective
from radstack.nets.own import vgg_sizes
from radstack.recipes.experiment import Backbone, Experiment, Head, Optim, Train
from radstack.recipes.losses import Expectation, Jaccard, Points, Regression
from radstack.training.inference import TTA, tta, turn
from radstack.training.loader import Batch
from radstack.training.run import Learner

SMALL = {"size": (64, 48), "widths": (4, 8), "dense": (16,)}
SMALL_UNET = {"widths": (4, 8, 16)}


@pytest.fixture(autouse=True)
def one_thread():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def vgg(head: Head | None = None, outputs: int = 1, channels: int = 1, dropout: float = 0.0, **args) -> Net:
    backbone = Backbone("radstack/vgg_elu", pretrained=False, dropout=dropout, args=SMALL | args)
    return build(backbone, outputs, channels, head=head or Head())


def unet(outputs: int = 1, channels: int = 1, head: Head | None = None, **args) -> Net:
    return build(Backbone("radstack/unet", pretrained=False, args=SMALL_UNET | args), outputs, channels, head=head or Head())


def test_the_articles_network_has_its_sizes():
    assert vgg_sizes((500, 375), 6) == [(249, 187), (124, 93), (61, 46), (30, 22), (14, 10), (6, 4)]
    with torch.device("meta"):
        net = build(Backbone("radstack/vgg_elu", pretrained=False, args={"size": (500, 375)}), 1, 1)
        features = net.body.blocks(torch.zeros(2, 1, 500, 375))
    assert features.shape == (2, 384, 6, 4) and net.width == 2048
    # 6 blocks of c_in c_out 9 + c_out^2 weights, 2 c_out biases and 4 c_out of batch norm, then 9216-2048-2048-1
    pairs = [(1, 32), (32, 64), (64, 128), (128, 128), (128, 256), (256, 384)]
    convolutions = sum(9 * a * b + b * b + 6 * b for a, b in pairs)
    expected = convolutions + 9217 * 2048 + 2049 * 2048 + 2049
    assert sum(p.numel() for p in net.parameters()) == expected == 24_751_201


def test_a_block_is_conv_elu_norm_twice_then_pool_and_the_end_is_dropout_linear_elu():
    net = vgg(second=3, dense=(16, 12), dropout=0.0)
    kinds = [type(layer).__name__ for layer in net.body.blocks[0]]
    assert kinds == ["Conv2d", "ELU", "BatchNorm2d", "Conv2d", "ELU", "BatchNorm2d", "MaxPool2d"]
    assert [net.body.blocks[1][k].kernel_size for k in (0, 3, 6)] == [(3, 3), (3, 3), 3]
    layers = [[type(part).__name__ for part in layer] for layer in list(net.body.dense)[1:]]
    assert layers == [["Dropout", "Linear", "ELU"]] * 2
    assert vgg().body.blocks[0][3].kernel_size == (1, 1) and vgg().body.dense[1][0].p == 0.3
    fan_out = vgg(channels=128, widths=(256,), dense=()).body.blocks[0][0].weight
    assert fan_out.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.02)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (48, 32)])
def test_unet_answers_at_the_size_of_the_picture(channels, size):
    net = unet(2, channels)
    out = net(torch.randn(2, channels, *size))
    assert isinstance(net, Dense) and net.start == "random" and out.shape == (2, 2, *size)
    out.square().sum().backward()
    assert [key for key, p in net.named_parameters() if p.grad is None] == []
    with torch.autocast("cpu", torch.bfloat16):
        assert net(torch.randn(1, channels, *size)).dtype == torch.float32


def test_a_unets_pixel_sees_its_surroundings_through_the_depth_and_itself_through_the_skips():
    net = unet(widths=(4, 8, 16, 32)).eval()
    images = torch.randn(1, 1, 64, 64, requires_grad=True)
    net(images)[0, 0, 32, 32].backward()
    reach = images.grad[0, 0].abs() > 0
    assert reach[32, 32] and int(reach.any(0).sum()) > 2 * 2**3 + 1
    kept = []
    net.body.join[-1].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    net(images)
    torch.testing.assert_close(kept[0][:, :4], net.body.down[0](images))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: vgg(size=(32, 32), widths=(4, 4, 4, 4, 4)), "5 blocks leave nothing of a picture of 32 x 32"),
        (lambda: vgg(second=2), "no center"),
        (lambda: vgg(kernel=3), "check backbone.args"),
        (lambda: build(Backbone("radstack/vgg_elu", pretrained=False), 1), "size.*check backbone.args"),
        (lambda: build(Backbone("radstack/vgg", pretrained=False), 1), "did you mean 'vgg_elu'"),
        (lambda: vgg()(torch.zeros(1, 1, 48, 64)), r"made for pictures of \(64, 48\), not \(48, 64\)"),
        (lambda: unet()(torch.zeros(1, 1, 32, 30)), "divide by 4"),
        (lambda: unet(head=Head(columns=("male",))), "answers in maps"),
        (lambda: build(Backbone("radstack/unet", pretrained=True), 1), "radstack/unet has no published weights"),
        (lambda: build(Backbone("radstack/unet", weights="mine.safetensors"), 1), "put them as mine.safetensors"),
    ],
)
def test_impossible_networks(make, says):
    with pytest.raises(UserError, match=says) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("whole", [True, False])
def test_a_local_file_starts_the_trunk_and_leaves_the_head(tmp_path, whole):
    teacher = vgg(Head(("male",), 3, (5,)), outputs=7)
    state = teacher.state_dict() if whole else teacher.body.state_dict()
    save_file(state, tmp_path / "mine.safetensors")
    net = build(Backbone("radstack/vgg_elu", weights="mine.safetensors", args=SMALL), 1, 1, tmp_path)
    torch.testing.assert_close(dict(net.body.state_dict()), dict(teacher.body.state_dict()))
    assert net.head.weight.shape == (1, 16) and net.start.startswith("mine.safetensors")
    assert ("dropped" in net.start) == whole


def test_columns_join_the_features_and_pass_the_hidden_layers():
    net = vgg(Head(("male", "size"), 3, (5, 4)), outputs=2).eval()
    assert {key: tuple(value.shape) for key, value in net.state_dict().items() if not key.startswith("body")} == {
        "given_columns.weight": (3, 2), "given_columns.bias": (3,), "hidden.0.weight": (5, 19), "hidden.0.bias": (5,),
        "hidden.1.weight": (4, 5), "hidden.1.bias": (4,), "head.weight": (2, 4), "head.bias": (2,)}
    images, columns = torch.randn(3, 1, 64, 48), torch.randn(3, 2)
    features = net.embed(images)
    joined = torch.cat([features, torch.relu(net.given_columns(columns))], 1)
    expected = net.head(torch.relu(net.hidden[1](torch.relu(net.hidden[0](joined)))))
    torch.testing.assert_close(net(images, columns), expected)
    torch.testing.assert_close(net.decide(features, columns), expected)
    assert not torch.allclose(net(images, columns), net(images, columns + 1))
    net.decide(features.detach(), columns)[:, 0].sum().backward()
    assert net.given_columns.weight.grad.abs().sum() > 0


def test_columns_that_are_missing_or_too_many_are_refused():
    with pytest.raises(ValueError, match="batch has none"):
        vgg(Head(("male",))).decide(torch.zeros(1, 16))
    with pytest.raises(ValueError, match="takes none"):
        vgg().decide(torch.zeros(1, 16), torch.zeros(1, 1))


def test_the_head_is_exact_under_autocast():
    net = vgg(Head(("male",), 3, (5,))).eval()
    features, columns = torch.randn(4, 16).bfloat16(), torch.ones(4, 1)
    with torch.autocast("cpu", torch.bfloat16):
        out = net.decide(features, columns)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, net.decide(features.float(), columns), rtol=0, atol=0)


def test_dropout_comes_before_the_last_layer_and_after_each_hidden_one():
    images, columns = torch.randn(2, 1, 64, 48), torch.ones(2, 1)
    net = vgg(Head(hidden=(64,)), dropout=0.5)
    net.body.eval()
    features = net.embed(images).detach()
    assert not torch.equal(net.decide(features), net.decide(features))
    plain = vgg(Head(("male",)), dropout=0.5)
    plain.body.eval()
    features = plain.embed(images).detach()
    assert torch.equal(plain.decide(features, columns), plain.decide(features, columns)), "features are dropped in forward"
    assert not torch.equal(plain(images, columns), plain(images, columns))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_head_without_columns_leaves_published_networks_as_they_were(channels):
    net = build(Backbone("timm/test_resnet", pretrained=False, dropout=0.3), 6, channels).eval()
    assert [key for key in net.state_dict() if not key.startswith("body.")] == ["head.weight", "head.bias"]
    assert net.head.out_features == 6
    torch.manual_seed(3)
    again = build(Backbone("timm/test_resnet", pretrained=False), 6, channels)
    torch.manual_seed(3)
    with_sex = build(Backbone("timm/test_resnet", pretrained=False), 6, channels, head=Head(("male",)))
    torch.testing.assert_close(dict(again.body.state_dict()), dict(with_sex.body.state_dict()))
    images = torch.randn(2, channels, 64, 64)
    torch.testing.assert_close(net(images), torch.nn.functional.linear(net.embed(images), net.head.weight, net.head.bias))


def drawn(count: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bright discs on noise, uint8 [count, 1, height, width]; their masks; their centers from -1 to 1."""
    rng, (height, width) = np.random.default_rng(0), size
    centers = np.stack([rng.integers(12, width - 12, count), rng.integers(12, height - 12, count)], 1)
    masks = np.stack([cv2.circle(np.zeros(size, np.uint8), center.tolist(), 8, 1, -1) for center in centers])
    pictures = np.clip(rng.normal(60, 10, masks.shape) + 120 * masks, 0, 255).astype(np.uint8)
    points = (2 * centers / (width - 1, height - 1) - 1).astype(np.float32)
    return torch.from_numpy(pictures[:, None]), torch.from_numpy(masks), torch.from_numpy(points)


@pytest.mark.parametrize("loss", [Regression(), Expectation(), Expectation(divergence=1.0), Jaccard(), Points()],
                         ids=["value", "expectation", "distribution", "mask", "points"])
def test_steps_of_every_objective_lower_its_loss(loss):
    pictures, masks, points = drawn(8, (64, 48))
    told, mask = not isinstance(loss, Jaccard | Points), isinstance(loss, Jaccard)
    targets = {"points": ("x", "y"), "mask": ()}.get(loss.moves_with_picture, ("age",))
    backbone = Backbone("radstack/unet", False, args=SMALL_UNET) if mask else Backbone("radstack/vgg_elu", False, args=SMALL)
    head = Head(("male",), 4, (8,)) if told else Head()
    experiment = Experiment("tiny", Whole((64, 48)), backbone, head=head, loss=loss, optim=Optim(lr=3e-3),
                            train=Train(precision="bf16", ema=0.9))
    net = build(backbone, objective(loss, targets).outputs, 1, head=head)
    labels = masks if mask else points if targets == ("x", "y") else 120 + 80 * points[:, :1]
    columns = (points[:, 1:] > 0).float() if told else torch.zeros(8, 0)
    learner = Learner(experiment, targets, net, torch.device("cpu"))
    batch = Batch(pictures, labels, columns, torch.arange(8))
    steps = [learner.step([batch], 0.0, number) for number in range(30)]
    assert all(moved and rows.shape == (8,) and rows.isfinite().all() for moved, _, rows in steps)
    first, last = (np.mean([loss for _, loss, _ in part]) for part in (steps[:3], steps[-3:]))
    assert last < 0.9 * first


def test_turning_by_a_quarter_is_rot90():
    images = torch.randn(2, 3, 7, 7)
    torch.testing.assert_close(turn(images, 90.0), images.rot90(1, (2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("degrees", [5, -10])
@pytest.mark.parametrize("size", [(60, 90), (90, 61)])
def test_turns_agree_with_opencv_on_oblong_pictures(degrees, size):
    picture = cv2.GaussianBlur(np.random.default_rng(0).random(size, np.float32), (0, 0), 3)
    matrix = cv2.getRotationMatrix2D(((size[1] - 1) / 2, (size[0] - 1) / 2), degrees, 1.0)
    expected = cv2.warpAffine(picture, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    made = TTA[f"turn{degrees}"](torch.from_numpy(picture)[None, None])[0, 0].numpy()
    # OpenCV interpolates at 1/32 of a pixel.
    np.testing.assert_allclose(made, expected, atol=np.abs(np.diff(picture)).max() / 16)


def test_turns_are_exact_under_autocast_and_there_and_back_is_nearly_the_same():
    noise = np.random.default_rng(0).random((80, 64), np.float32)
    images = torch.from_numpy(cv2.GaussianBlur(noise, (0, 0), 3))[None, None]
    there, back = tta(("turn10", "turn-10"))
    with torch.autocast("cpu", torch.bfloat16):
        half = there(images)
    assert torch.equal(half, there(images)) and there(images.half()).dtype == torch.float16
    middle = (slice(None), slice(None), slice(16, 64), slice(16, 48))
    again = back(there(images))[middle]
    assert (again - images[middle]).abs().mean() < 0.1 * images[middle].std()
    constant = torch.full((1, 1, 20, 30), 3.0)
    torch.testing.assert_close(there(constant), constant)
