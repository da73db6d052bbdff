"""Mixed precision by name: one object that runs the forward pass, the backward pass and the optimizer step."""

import importlib
import math
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from radstack.core.errors import UserError, reason
from radstack.core.registry import pick
from radstack.core.say import say


class Precision:
    """fp32, bf16 and fp16 of torch.amp; the weights stay fp32 (Micikevicius 2018)."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        """Compute on ``device`` in ``dtype``; float16 brings a gradient scaler, and is for GPUs."""
        half = dtype == torch.float16
        self.device, self.dtype = device, dtype
        self.scaler = torch.amp.GradScaler(device.type, enabled=half)

    def prepare(self, net: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Bring the network, already on its device, and its optimizer to this precision; before DDP and resuming."""
        return net, optimizer

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of the forward pass; switched off for float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def backward(self, loss: torch.Tensor, optimizer: Optimizer) -> None:
        """Add the gradients of ``loss``, scaled where half precision needs it."""
        self.scaler.scale(loss).backward()

    def step(self, optimizer: Optimizer, clip_norm: float) -> float:
        """Unscale, clip to the global norm ``clip_norm`` (0: do not), step, and clear the gradients.

        Returns the norm before clipping. Where it is not finite the weights have not moved; then only the loss scale falls.
        """
        self.scaler.unscale_(optimizer)
        norm = _clip(optimizer, clip_norm)
        if math.isfinite(norm):
            self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Loss scale and its history, plain numbers; empty without a scaler."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state)


class Apex(Precision):
    """``apex.amp`` O1 (patched functions) or O2 (half weights, fp32 masters), where the installed Apex has it."""

    def __init__(self, device: torch.device, level: str) -> None:
        """Use optimization level ``level``, "O1" or "O2"; a UserError without a GPU or an Apex that has amp."""
        if device.type != "cuda":
            raise UserError(f"train.precision='apex_{level.lower()}' needs an NVIDIA GPU; set 'bf16' or 'fp32'")
        self.amp = apex_module("apex.amp", native="train.precision='fp16'", needs="initialize")
        self.level = level

    def prepare(self, net: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Let Apex patch or cast both."""
        return self.amp.initialize(net, optimizer, opt_level=self.level, verbosity=0)

    def autocast(self) -> AbstractContextManager[Any]:
        """Nothing: Apex has patched the functions or the network."""
        return nullcontext()

    def backward(self, loss: torch.Tensor, optimizer: Optimizer) -> None:
        """Back-propagate through Apex's loss scaling."""
        with self.amp.scale_loss(loss, optimizer) as scaled:
            scaled.backward()

    def step(self, optimizer: Optimizer, clip_norm: float) -> float:
        """Step always: on overflow Apex has replaced the step by one that only puts the real one back."""
        norm = _clip(optimizer, clip_norm, list(self.amp.master_params(optimizer)))
        optimizer.step()
        optimizer.zero_grad()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Apex's loss scalers."""
        return self.amp.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore Apex's loss scalers."""
        self.amp.load_state_dict(state)


PRECISIONS: dict[str, torch.dtype | str] = {
    "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "apex_o1": "O1", "apex_o2": "O2",
}
"""Name -> what is computed in, or Apex's optimization level."""


def served(name: str, device: torch.device, instead: str = "") -> str:
    """``name``, or what stands in for fp16 where there is no GPU, said in one line.

    That is ``instead``, else bf16 where the processor computes in it, else fp32. The recipe and its key stay as they are.
    """
    if name != "fp16" or device.type != "cpu":
        return name
    instead = instead or ("bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32")
    say(f"fp16 needs a GPU; on this CPU it is computed in {instead}")
    return instead


def precision(name: str, device: torch.device) -> Precision:
    """The precision ``name`` for ``device``, see :func:`served`; a UserError where the installation cannot serve it."""
    kind = pick(PRECISIONS, served(name, device), "precision")
    return Apex(device, kind) if isinstance(kind, str) else Precision(device, kind)


def apex_module(name: str, native: str, needs: str) -> ModuleType:
    """Import ``name`` of NVIDIA Apex, which must have the attribute ``needs``; ``native`` is the setting instead of it.

    A UserError where it is not there, in one line that tells the two packages called apex apart.
    """
    try:
        module = importlib.import_module(name)
        if not hasattr(module, needs):
            raise ImportError(f"it has no {needs}")
    except Exception as error:  # PyPI's apex fails on its own missing imports, a broken build in any way
        raise UserError(f"{name} of NVIDIA Apex is not installed here ({reason(error)}). PyPI's 'apex' is another package "
                        "(a Pyramid toolkit), and recent NVIDIA Apex ships no amp; use PyTorch's own equivalent: "
                        f"{native}") from error
    return module


def _clip(optimizer: Optimizer, clip_norm: float, parameters: list[torch.Tensor] | None = None) -> float:
    """Clip the gradients to a global L2 norm of ``clip_norm`` unless that is 0; return the norm before."""
    if parameters is None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    # torch would multiply by 1 as well, to save a wait for the GPU that is here anyway: once more through all gradients.
    if clip_norm and not clip_norm / (norm + 1e-6) >= 1:
        clip_grads_with_norm_(parameters, clip_norm, norm)
    return float(norm)
