"""Pretrained weights: found, checked, read without running code, fitted whole; never a silent random start."""

import hashlib
import json
import math
import pickle

import pytest
import torch
from safetensors.torch import save_file

from radstack.core.errors import UserError
from radstack.nets import build, pretrained
from radstack.nets.body import Origin
from radstack.recipes.experiment import Backbone

NAME = "timm/test_resnet.r160_in1k"
FILE = "test_resnet.r160_in1k.safetensors"


@pytest.fixture
def state():
    """What timm publishes: the network with its thousand-class layer."""
    import timm

    torch.manual_seed(7)
    return timm.create_model("test_resnet", pretrained=False, num_classes=1000).state_dict()


def start(folder, channels=3, name=NAME, offline=True, **fields):
    torch.manual_seed(1)
    return build(Backbone(name, **fields), 6, channels, weights_folder=folder, offline=offline)


def test_local_file_under_its_published_name_is_used(tmp_path, state):
    save_file(state, tmp_path / FILE)
    net = start(tmp_path)
    for key, value in net.body.state_dict().items():
        torch.testing.assert_close(value, state[key])
    assert FILE in net.start and "dropped fc." in net.start
    assert net.head.weight.shape == (6, net.width)


@pytest.mark.parametrize("zipped", [True, False])
def test_pth_files_new_and_old(tmp_path, state, zipped):
    wrapped = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
    torch.save(wrapped, tmp_path / "mine.pth", _use_new_zipfile_serialization=zipped)
    net = start(tmp_path, weights="mine.pth")
    torch.testing.assert_close(net.body.state_dict()["conv1.0.weight"], state["conv1.0.weight"])


@pytest.mark.parametrize("channels", [1, 5])
def test_first_convolution_is_adapted(tmp_path, state, channels):
    save_file(state, tmp_path / FILE)
    net = start(tmp_path, channels)
    old, new = state["conv1.0.weight"], net.body.state_dict()["conv1.0.weight"]
    assert new.shape[1] == channels and f"adapted from 3 to {channels}" in net.start
    if channels == 1:
        torch.testing.assert_close(new, old.sum(1, keepdim=True))
    else:
        torch.testing.assert_close(new[:, 3], old[:, 0] * 3 / 5)


@pytest.mark.parametrize(
    ("name", "args"),
    [("pretrainedmodels/densenet121", {}), ("torchvision/inception_v3", {}),
     ("efficientnet_pytorch/efficientnet-b0", {"width_coefficient": 0.25, "depth_coefficient": 0.25})],
)
def test_files_of_the_other_sources_fit(tmp_path, name, args):
    source, _, model = name.partition("/")
    state = published(source, model, args)
    save_file(state, tmp_path / "mine.safetensors")
    net = start(tmp_path, name=name, weights="mine.safetensors", args=args)
    assert "dropped" in net.start
    own = net.body.state_dict()
    for key in [key for key in own if key in state][:50]:
        torch.testing.assert_close(own[key], state[key])


def published(source, model, args):
    """A state dict as that source's file has it: classifier, auxiliary head and old densenet names included."""
    import torchvision
    from efficientnet_pytorch import EfficientNet

    if source == "efficientnet_pytorch":
        return EfficientNet.from_name(model, **args).state_dict()
    extra = {"aux_logits": True, "init_weights": False} if "inception" in model else {}
    state = torchvision.models.get_model(model, weights=None, **extra).state_dict()
    for old in ("norm", "conv"):
        for number in "12":
            state = {key.replace(f".{old}{number}.", f".{old}.{number}.") if "denselayer" in key else key: value
                     for key, value in state.items() if "num_batches_tracked" not in key}
    return state


@pytest.mark.parametrize(("model", "apart"), [("inception_v3", 1e-4), ("googlenet", 0.02)])
def test_torchvisions_weights_from_tensorflow_see_pictures_as_torchvision_shows_them(tmp_path, monkeypatch, model, apart):
    """GoogLeNet's first layer fills the border, which torchvision does after its change of the input."""
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.get_model(model, weights=None, aux_logits=False, init_weights=False, transform_input=True)
    images = torch.randn(2, 3, 96, 96)
    theirs.train()(images)  # statistics of norms that say something
    file = tmp_path / torchvision.models.get_model_weights(model).DEFAULT.url.rpartition("/")[2]
    torch.save(theirs.state_dict(), file)
    theirs.fc = torch.nn.Identity()
    monkeypatch.setattr(pretrained, "hash_in_name", lambda name: "")
    with torch.inference_mode():
        expected = theirs.eval()(images)
        said = {args: start(tmp_path, name=f"torchvision/{model}", args=dict(args)).eval().embed(images)
                for args in ((), (("transform_input", True),))}
    assert (said[()] - expected).abs().mean() < apart * expected.abs().mean()
    torch.testing.assert_close(said[("transform_input", True),], expected)


def test_transformers_are_brought_to_the_recipes_size(tmp_path):
    import timm

    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "vit.safetensors")
    net = start(tmp_path, name="timm/test_vit", weights="vit.safetensors", args={"img_size": 64})
    assert net.embed(torch.zeros(1, 3, 64, 64)).shape == (1, net.width)


def test_timms_legacy_file_fits_the_squeeze_and_excitation_nets_of_pretrainedmodels(tmp_path):
    import timm

    state = timm.create_model("legacy_seresnext50_32x4d").state_dict()
    save_file(state, tmp_path / "se.safetensors")
    net = start(tmp_path, name="pretrainedmodels/se_resnext50_32x4d", weights="se.safetensors")
    assert net.start.endswith("; dropped last_linear.bias, last_linear.weight")
    torch.testing.assert_close(net.body.state_dict()["layer4.2.conv3.weight"], state["layer4.2.conv3.weight"])


def test_checksum(tmp_path, state):
    save_file(state, tmp_path / FILE)
    digest = hashlib.sha256((tmp_path / FILE).read_bytes()).hexdigest()
    assert start(tmp_path, weights_sha256=digest.upper())
    with pytest.raises(UserError, match=f"{FILE} has SHA-256 {digest}, expected 00"):
        start(tmp_path, weights_sha256="0" * 64)


def test_checksum_in_a_published_name_is_checked(tmp_path):
    name = "resnet18-f37072fd.pth"
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(UserError, match="expected f37072fd"):
        start(tmp_path, name="torchvision/resnet18")
    assert pretrained.hash_in_name("bn_inception-52deb4733.pth") == "52deb4733"
    assert pretrained.hash_in_name("mobilenetv3.safetensors") == ""


def test_missing_file_names_the_place(tmp_path):
    with pytest.raises(UserError, match=rf"put them at {tmp_path}/mine.pth"):
        start(tmp_path, weights="mine.pth")
    with pytest.raises(UserError, match=r"as mine.pth into a folder and name that with --weights"):
        start(None, weights="mine.pth")


@pytest.mark.parametrize(
    ("name", "file"),
    [(NAME, FILE), ("torchvision/resnet18", "resnet18-f37072fd.pth"),
     ("pretrainedmodels/resnet18", "resnet18-5c106cde.pth"),
     ("efficientnet_pytorch/efficientnet-b0", "efficientnet-b0-355c32eb.pth")],
)
def test_offline_is_an_error_that_says_what_to_fetch(tmp_path, no_network, name, file):
    says = rf"cannot find the weights .* fetch https://\S+ elsewhere and put it at {tmp_path}/{file}"
    with pytest.raises(UserError, match=says) as error:
        start(tmp_path, name=name)
    assert "\n" not in str(error.value)


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """Empty caches, and every client failing."""

    def broken(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", broken)
    monkeypatch.setattr("torch.hub.download_url_to_file", broken)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.mark.parametrize("name", [NAME, "torchvision/resnet18"])
def test_failed_download_is_the_same_error(tmp_path, no_network, name):
    says = r"cannot download .* \(ConnectionError: no route to host\); fetch https"
    with pytest.raises(UserError, match=says):
        start(tmp_path, name=name, offline=False)


def test_nothing_published_is_an_error():
    with pytest.raises(UserError, match=r"no published weights.*pretrained=False"):
        start(None, name="efficientnet_pytorch/efficientnet-l2",
              args={"width_coefficient": 0.1, "depth_coefficient": 0.1})


def test_download_is_kept_and_read_safely(tmp_path, monkeypatch, state):
    torch.save(state, tmp_path / "plain.pth")
    digest = hashlib.sha256((tmp_path / "plain.pth").read_bytes()).hexdigest()
    served = (tmp_path / "plain.pth").rename(tmp_path / f"net-{digest[:8]}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    path = pretrained.download(Origin(served.name, served.as_uri()))
    assert path.parent == tmp_path / "torch/hub/checkpoints"
    assert pretrained.read(path).keys() == state.keys()
    served.unlink()
    for offline in (False, True):
        assert pretrained.download(Origin(served.name, served.as_uri()), offline) == path, "fetched twice"


def test_hub_file_is_fetched_by_name(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args, **_: asked.append(args) or str(tmp_path))
    url = "https://huggingface.co/timm/x/resolve/main/model.safetensors"
    pretrained.download(Origin("x.safetensors", url, "timm/x"))
    assert asked == [("timm/x", "model.safetensors")]


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import pathlib

        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("save", [lambda value, path: torch.save(value, path),
                                  lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_a_pickle_that_runs_code_is_refused(tmp_path, save):
    save({"conv1.weight": Malicious(tmp_path / "owned")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="holds more than tensors"):
        start(tmp_path, weights="evil.pth")
    assert not (tmp_path / "owned").exists()


def test_damaged_files(tmp_path, state):
    save_file(state, tmp_path / "cut.safetensors")
    torch.save(state, tmp_path / "cut.pth")
    for name in ("cut.safetensors", "cut.pth"):
        whole = (tmp_path / name).read_bytes()
        for keep in (0, 100, len(whole) // 2):
            (tmp_path / name).write_bytes(whole[:keep])
            with pytest.raises(UserError, match="cut"):
                start(tmp_path, weights=name)


def test_not_a_state_dict(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="no state dict"):
        start(tmp_path, weights="list.pth")


def test_what_does_not_fit_is_named(tmp_path, state):
    missing = {key: value for key, value in state.items() if key != "layer1.0.conv1.weight"}
    extra = state | {"layer9.weight": torch.zeros(1)}
    other = state | {"layer1.0.conv1.weight": torch.zeros(3, 3)}
    for wrong, says in [(missing, "has no layer1.0.conv1.weight"), (extra, "has extra layer9.weight"),
                        (other, r"another shape of layer1.0.conv1.weight \(3, 3\) for")]:
        save_file(wrong, tmp_path / FILE)
        with pytest.raises(UserError, match=says):
            start(tmp_path)


def test_vgg16_of_imagenet_is_read_whole_from_a_local_file(tmp_path):
    """The file has the names, shapes and size (528 MB) of the published one, as a sparse file of zeros but for two layers:
    what is proved is that such a file loads.
    """
    import torchvision

    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in torchvision.models.vgg16().state_dict().items()}
    drawn = {"features.0.weight": torch.randn(64, 3, 3, 3), "classifier.3.bias": torch.randn(4096)}
    size = sparse_file(tmp_path / "vgg16.safetensors", shapes, drawn)
    assert size > 553e6 and (tmp_path / "vgg16.safetensors").stat().st_blocks * 512 < 2**20
    net = start(tmp_path, channels=1, name="torchvision/vgg16", weights="vgg16.safetensors")
    own = net.body.state_dict()
    torch.testing.assert_close(own["features.0.weight"], drawn["features.0.weight"].sum(1, keepdim=True))
    torch.testing.assert_close(own["classifier.3.bias"], drawn["classifier.3.bias"])
    assert not own["classifier.0.weight"].any() and net.width == 4096
    assert "dropped classifier.6." in net.start and "adapted from 3 to 1 channels" in net.start


def sparse_file(path, shapes, values):
    """A safetensors file of float32 zeros but for ``values``; its bytes. What is 0 takes no space on the disk."""
    entries, end = {}, 0
    for key, shape in shapes.items():
        entries[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + 4 * math.prod(shape)]}
        end += 4 * math.prod(shape)
    head = json.dumps(entries).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as handle:
        handle.write(len(head).to_bytes(8, "little") + head)
        for key, value in values.items():
            handle.seek(8 + len(head) + entries[key]["data_offsets"][0])
            handle.write(value.numpy().tobytes())
        handle.truncate(8 + len(head) + end)
    return path.stat().st_size
