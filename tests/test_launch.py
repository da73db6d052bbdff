"""torchrun as a child of the test; this file is also the script that the children run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from events import watchdog

from radstack.core.errors import UserError
from radstack.core.say import say
from radstack.training import distributed as launch

HERE = Path(__file__).resolve()


def test_two_processes_join_and_end_with_equal_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lines = []
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))
    launch.torchrun(HERE.stem, ["train", str(tmp_path)], 2, lines.append)  # as a module; below, as a file
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert (first["rank"], second["rank"], first["world"], second["world"]) == (0, 1, 2, 2)
    assert first["weights"] == second["weights"] != first["start"]
    assert first["share"] == [0, 2, 4] and second["share"] == [1, 3]
    assert not first["main_was_through"] and second["main_was_through"]
    assert {"hello of 0", "hello of 1"} <= set(lines)


def test_a_process_that_fails_ends_all_and_its_last_words_are_the_error(tmp_path):
    os.mkfifo(tmp_path / "joined")
    with watchdog(), \
            pytest.raises(UserError, match=r"3 processes were asked for, 2 joined;.* \| rank 1 ended with exit") as caught:
        launch.torchrun(HERE, ["fail", str(tmp_path)], 2, lambda _: None)
    assert "\n" not in str(caught.value)


def test_alone():
    with launch.joined(1) as device, launch.main_process_first():
        assert device == torch.device("cpu") and launch.distributed() == (0, 1)
    with pytest.raises(UserError, match="2 processes were asked for, 1 joined; start them with torchrun"), \
            launch.joined(2):
        pass
    assert launch.spread(np.arange(7), 1, 3).tolist() == [1, 4]


SLEEPER = """
import pathlib, signal, sys
alive = pathlib.Path(sys.argv[1], "alive").open("w")
alive.write("started\\n")
alive.flush()
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_launcher(tmp_path, number):
    """The sleeper holds the writing end of a pipe, which closes when it ends, however it ends."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    os.mkfifo(tmp_path / "alive")
    code = ("from pathlib import Path; from radstack.training.distributed import torchrun; "
            f"torchrun(Path({str(tmp_path / 'sleeper.py')!r}), [{str(tmp_path)!r}], 1, print)")
    launcher = subprocess.Popen([sys.executable, "-c", code],
                                env={**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src")})
    with watchdog(), (tmp_path / "alive").open() as sleeper:
        assert sleeper.readline() == "started\n"
        launcher.send_signal(number)
        assert launcher.wait() == -number
        assert sleeper.read() == ""


def train(folder):
    """Three steps of a tiny model that starts differently in each process and sees different data."""
    rank, world = launch.distributed()
    say(f"hello of {rank}")
    with launch.main_process_first():
        main_was_through = (folder / "through").exists()
        time.sleep(0.2 * (rank == 0))  # a wrong order would show; the right one holds at any speed
        (folder / "through").touch()
    torch.manual_seed(rank)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 2))
    start = model.module.weight.tolist()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    (folder / f"rank{rank}.json").write_text(json.dumps({
        "rank": rank, "world": world, "start": start, "weights": model.module.weight.tolist(),
        "main_was_through": main_was_through,
        "share": launch.spread(list(range(5)), rank, world)}))


def fail(folder):
    """Rank 1 fails, but not before rank 0 has joined: that one would fail as well, with last words of its own."""
    with (folder / "joined").open("r" if launch.distributed()[0] else "w"):  # either waits here for the other
        pass
    if launch.distributed()[0] == 1:
        launch.assert_world(3)
    signal.pause()


if __name__ == "__main__":
    with launch.joined(2):
        {"train": train, "fail": fail}[sys.argv[1]](Path(sys.argv[2]))
