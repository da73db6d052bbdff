"""fp32, bf16, fp16 and Apex by name; refused in one line where they cannot run."""

import importlib
import sys

import pytest
import torch
from torch import nn

from radstack.core.errors import UserError
from radstack.core.say import saying_to
from radstack.nets.optim import optimizer
from radstack.nets.precision import PRECISIONS, precision
from radstack.recipes.experiment import Optim

CPU, CUDA = torch.device("cpu"), torch.device("cuda")

FAKE_AMP = """
from contextlib import contextmanager
calls = []
def initialize(net, optimizer, opt_level, verbosity):
    calls.append(opt_level)
    return net, optimizer
@contextmanager
def scale_loss(loss, optimizer):
    calls.append("scale")
    yield loss
def master_params(optimizer):
    return (p for group in optimizer.param_groups for p in group["params"])
def state_dict():
    return {"loss_scaler0": {"loss_scale": 65536.0}}
def load_state_dict(state):
    calls.append(state)
"""
FAKE_OPTIMIZERS = """
import torch
class FusedAdam(torch.optim.Adam):
    def __init__(self, params, lr, betas, adam_w_mode):
        assert adam_w_mode is False
        super().__init__(params, lr=lr, betas=betas)
"""
BROKEN_OPTIMIZERS = """
class FusedAdam:
    def __init__(self, *args, **kwargs):
        raise RuntimeError("apex.optimizers.FusedAdam requires cuda extensions")
"""
APEX = {
    "nvidia": {"__init__.py": "", "amp.py": FAKE_AMP, "optimizers.py": FAKE_OPTIMIZERS},
    "new": {"__init__.py": "", "optimizers.py": FAKE_OPTIMIZERS},
    "unbuilt": {"__init__.py": "", "optimizers.py": BROKEN_OPTIMIZERS},
    "pyramid": {"__init__.py": "from pyramid_that_is_not_here import session"},
    "emptied": {"__init__.py": "", "amp.py": "", "optimizers.py": ""},
    "absent": {},
}


@pytest.fixture
def apex(tmp_path, monkeypatch):
    """Install one of the packages called apex for this test."""

    def install(kind: str) -> None:
        if APEX[kind]:
            (tmp_path / "apex").mkdir()
        for name, text in APEX[kind].items():
            (tmp_path / "apex" / name).write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()

    before = set(sys.modules)
    yield install
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "apex":
            del sys.modules[name]


def net_and_optimizer():
    torch.manual_seed(0)
    net = nn.Linear(4, 2)
    return net, optimizer(Optim("sgd", lr=0.1, momentum=0.0), net)


def run(name: str, scale: float = 1.0, clip: float = 0.0):
    how = precision(name, CPU)
    net, made = how.prepare(*net_and_optimizer())
    before = net.weight.detach().clone()
    with how.autocast():
        out = net(torch.ones(3, 4))
    how.backward(out.float().sum() * scale, made)
    norm = how.step(made, clip)
    return out.dtype, norm, before - net.weight.detach()


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_native_dtype_and_step(name, dtype):
    made, norm, moved = run(name)
    assert made == dtype
    # Each of 2 x 4 weights has gradient 3 and each of 2 biases too: the norm is 3 sqrt(10), the step .1 x 3.
    assert norm == pytest.approx(3 * 10**0.5)
    torch.testing.assert_close(moved, torch.full((2, 4), 0.3))


def test_clipping_by_global_norm():
    _, norm, moved = run("fp32", clip=1.0)
    assert norm == pytest.approx(3 * 10**0.5), "the norm is the one before clipping"
    torch.testing.assert_close(moved, torch.full((2, 4), 0.1 / 10**0.5))


@pytest.mark.parametrize("share", [0.5, 1 - 1e-6, 1.0, 1 + 1e-7, 1 + 1e-6, 2.0])
def test_gradients_are_clipped_to_the_bit_as_torch_does(share):
    norm = float(run("fp32")[1])
    (net, made), (twin, other) = net_and_optimizer(), net_and_optimizer()
    how = precision("fp32", CPU)
    how.backward(net(torch.ones(3, 4)).sum(), made)
    how.step(made, norm * share)
    twin(torch.ones(3, 4)).sum().backward()
    nn.utils.clip_grad_norm_(twin.parameters(), norm * share)
    other.step()
    assert torch.equal(net.weight, twin.weight) and torch.equal(net.bias, twin.bias)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_moves_nothing(scale):
    _, norm, moved = run("fp32", scale, clip=1.0)
    assert not abs(norm) < float("inf")
    assert not moved.any()


def test_gradients_are_cleared_and_accumulate_before():
    how = precision("fp32", CPU)
    net, made = net_and_optimizer()
    for _ in range(2):
        how.backward(net(torch.ones(1, 4)).sum() / 2, made)
    assert how.step(made, 0.0) == pytest.approx(10**0.5)
    assert all(p.grad is None for p in net.parameters())


def test_native_state_survives():
    how = precision("bf16", CPU)
    assert how.state_dict() == {}
    how.load_state_dict({})


def test_fp16_without_a_gpu_is_another_precision_and_says_so_in_one_line():
    for native, name in ((True, "bf16"), (False, "fp32")):
        lines = []
        with pytest.MonkeyPatch.context() as patch, saying_to(lines.append):
            patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
            how = precision("fp16", CPU)
        assert how.dtype == PRECISIONS[name] and not how.scaler.is_enabled()
        assert lines == [f"fp16 needs a GPU; on this CPU it is computed in {name}"]


def test_refusals_on_a_cpu():
    with pytest.raises(UserError, match="apex_o1' needs an NVIDIA GPU"):
        precision("apex_o1", CPU)
    with pytest.raises(UserError, match="no precision 'bf61'; did you mean 'bf16'"):
        precision("bf61", CPU)


def test_overflow_is_skipped_and_halves_the_loss_scale():
    how = precision("fp32", CPU)
    how.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    net, made = net_and_optimizer()
    how.backward(net(torch.ones(3, 4)).sum(), made)
    assert how.step(made, 0.0) == pytest.approx(3 * 10**0.5), "the norm is of unscaled gradients"
    weight = net.weight.detach().clone()
    how.backward(net(torch.ones(3, 4)).sum() * 1e38, made)
    assert how.step(made, 1.0) == float("inf")
    assert torch.equal(net.weight, weight) and how.state_dict()["scale"] == 512
    again = precision("fp32", CPU)
    again.scaler = torch.amp.GradScaler("cpu")
    again.load_state_dict(how.state_dict())
    assert again.state_dict() == how.state_dict()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 needs a GPU")
def test_fp16_scales_skips_and_resumes():
    how = precision("fp16", CUDA)
    net, made = net_and_optimizer()
    net.to(CUDA)
    with how.autocast():
        out = net(torch.ones(3, 4, device=CUDA))
    assert out.dtype == torch.float16
    how.backward(out.float().sum(), made)
    assert how.step(made, 0.0) == pytest.approx(3 * 10**0.5), "the norm is of unscaled gradients"
    scale, weight = how.state_dict()["scale"], net.weight.detach().clone()
    how.backward(net(torch.ones(3, 4, device=CUDA)).sum() * float("inf"), made)
    assert not abs(how.step(made, 0.0)) < float("inf")
    assert torch.equal(net.weight, weight) and how.state_dict()["scale"] == scale / 2
    again = precision("fp16", CUDA)
    again.load_state_dict(how.state_dict())
    assert again.state_dict() == how.state_dict()


@pytest.mark.parametrize("level", ["O1", "O2"])
def test_apex_amp_is_driven(apex, level):
    apex("nvidia")
    how = precision(f"apex_{level.lower()}", CUDA)
    net, made = how.prepare(*net_and_optimizer())
    before = net.weight.detach().clone()
    with how.autocast():
        loss = net(torch.ones(3, 4)).sum()
    how.backward(loss, made)
    assert how.step(made, 1.0) == pytest.approx(3 * 10**0.5)
    torch.testing.assert_close(before - net.weight.detach(), torch.full((2, 4), 0.1 / 10**0.5))
    how.load_state_dict(how.state_dict())
    assert sys.modules["apex.amp"].calls == [level, "scale", {"loss_scaler0": {"loss_scale": 65536.0}}]


@pytest.mark.parametrize("kind", ["new", "pyramid", "emptied", "absent"])
def test_without_apex_amp_one_line_names_both_packages_and_the_native_way(apex, kind):
    apex(kind)
    with pytest.raises(UserError, match=r"another package \(a Pyramid toolkit\).*train.precision='fp16'$") as error:
        precision("apex_o2", CUDA)
    assert "\n" not in str(error.value)


def test_fused_adam_where_apex_has_it(apex):
    apex("new")
    made = optimizer(Optim("fused_adam", lr=0.5), nn.Linear(2, 2))
    assert type(made).__name__ == "FusedAdam" and made.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(("kind", "says"), [("pyramid", "Pyramid"), ("absent", "Pyramid"), ("emptied", "no FusedAdam"),
                                            ("unbuilt", "requires cuda extensions")])
def test_fused_adam_refused(apex, kind, says):
    apex(kind)
    with pytest.raises(UserError, match=rf"{says}.*optim.name='adam'"):
        optimizer(Optim("fused_adam"), nn.Linear(2, 2))
