"""Optimizers by name, the learning rate as a pure function, and the moving average of the weights."""

import pytest
import torch
from torch import nn

from radstack.core.errors import UserError
from radstack.nets.optim import OPTIMIZERS, moving_average, optimizer, schedule, set_rate
from radstack.recipes.experiment import Optim, Schedule


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))


def train_step(net: nn.Module, made: torch.optim.Optimizer) -> None:
    net(torch.randn(8, 3, 3, 3)).square().mean().backward()
    made.step()
    made.zero_grad()


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW),
                                            ("sgd", torch.optim.SGD), ("rmsprop", torch.optim.RMSprop)])
def test_kinds_and_settings(name, kind):
    recipe = Optim(name, lr=0.01, weight_decay=0.1, betas=(0.8, 0.9), momentum=0.7)
    made = optimizer(recipe, small_net())
    assert type(made) is kind
    group = made.param_groups[0]
    assert group["lr"] == 0.01
    assert group["betas"] == (0.8, 0.9) if "adam" in name else group["momentum"] == 0.7


def test_weight_decay_spares_biases_and_norms():
    net = small_net()
    made = optimizer(Optim("adamw", weight_decay=0.1), net)
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in net.named_parameters()} == {
        "0.weight": 0.1, "0.bias": 0, "1.weight": 0, "1.bias": 0, "4.weight": 0.1, "4.bias": 0}


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "fused_adam"])
def test_training_lowers_the_loss(name):
    net = small_net()
    made = optimizer(Optim(name, lr=0.01), net)
    images = torch.randn(32, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(20):
        loss = net(images).square().mean()
        losses.append(loss.item())
        loss.backward()
        made.step()
        made.zero_grad()
    assert losses[-1] < 0.7 * losses[0]


def test_unknown_optimizer():
    with pytest.raises(UserError, match="no optimizer 'adamm'; did you mean 'adam'"):
        optimizer(Optim("adamm"), small_net())


def test_set_rate_reaches_every_group():
    made = optimizer(Optim(weight_decay=0.1), small_net())
    set_rate(made, 0.5)
    assert [group["lr"] for group in made.param_groups] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("recipe", "values"),
    [
        (Schedule(), {0: 1, 2.5: 1, 5: 1}),
        (Schedule("exponential", gamma=2 / 3), {0: 1, 0.99: 1, 1: 2 / 3, 1.5: 2 / 3, 2: 4 / 9}),
        (Schedule("steps", gamma=0.1, milestones=(2, 3.5)), {1.99: 1, 2: 0.1, 3: 0.1, 3.5: 0.01, 4.9: 0.01}),
        (Schedule("cosine"), {0: 1, 2.5: 0.5, 5: 0}),
        (Schedule("cosine", floor=0.1, warmup=1), {0: 0, 0.5: 0.5, 1: 1, 3: 0.55, 5: 0.1}),
        (Schedule("cyclic", floor=0.02, cycle=2), {0: 1, 1: 0.51, 2: 1, 3: 0.51, 3.999999: 0.02}),
        (Schedule("exponential", gamma=0.5, warmup=2), {0: 0, 0.5: 0.25, 1: 0.25, 2: 0.25, 3: 0.125}),
    ],
)
def test_schedule_by_hand(recipe, values):
    assert {epoch: schedule(recipe, epoch, 5) for epoch in values} == pytest.approx(values, abs=1e-5)


@pytest.mark.parametrize("name", ["constant", "exponential", "steps", "cosine", "cyclic"])
def test_schedule_stays_between_0_and_1_and_has_no_memory(name):
    recipe = Schedule(name, warmup=0.3, gamma=0.9, milestones=(1,), floor=0.1, cycle=0.7)
    epochs = [i / 97 for i in range(5 * 97 + 1)]
    forward = [schedule(recipe, epoch, 5) for epoch in epochs]
    assert forward == [schedule(recipe, epoch, 5) for epoch in reversed(epochs)][::-1]
    assert min(forward) >= 0 and max(forward) <= 1


def test_unknown_schedule_and_impossible_cycle():
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        schedule(Schedule("cosin"), 0, 5)
    with pytest.raises(UserError, match=r"schedule\.cycle"):
        schedule(Schedule("cyclic", cycle=0), 0, 5)


def test_average_follows_the_warm_up_and_copies_integer_buffers():
    net = small_net()
    average = moving_average(net, decay=0.99)
    made = optimizer(Optim("sgd", lr=0.1), net)
    expected = net[0].weight.detach().clone()
    for step in range(1, 6):
        train_step(net, made)
        average.update(net, step=step)
        decay = min(0.99, 1 - step ** (-2 / 3))
        expected = decay * expected + (1 - decay) * net[0].weight.detach()
        torch.testing.assert_close(average.module[0].weight, expected)
        assert average.module[1].num_batches_tracked.item() == step
    assert average.module[1].num_batches_tracked.dtype == torch.int64
    assert not torch.equal(average.module[1].running_mean, net[1].running_mean)


def test_average_resumes_from_plain_tensors(tmp_path):
    from safetensors.torch import load_file, save_file

    net = small_net()
    average, made = moving_average(net, 0.9), optimizer(Optim("sgd", lr=0.1), net)
    for step in (1, 2):
        train_step(net, made)
        average.update(net, step=step)
    save_file(average.module.state_dict(), tmp_path / "ema.safetensors")
    resumed = moving_average(small_net(), 0.9)
    resumed.module.load_state_dict(load_file(tmp_path / "ema.safetensors"))
    train_step(net, made)
    average.update(net, step=3)
    resumed.update(net, step=3)
    for key, value in average.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[key])
