"""Jobs on Ray: two nodes, with a temporary folder each, of which one dies; a driver that dies; GPUs that jobs share."""

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import threading
from multiprocessing.connection import Listener
from pathlib import Path

import pytest
import tiny
import torch
from events import watchdog
from jobs import STEPS, double, fail, train
from ray_jobs import hold, learn

from competitions import load
from radstack.core.errors import LeakError, UsageError, UserError
from radstack.core.recipe import change
from radstack.running.cli import open_context, parser
from radstack.running.length import predicting_length, training_length
from radstack.running.tasks import Task, make_all, run_tasks

PIDFD = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux hands out processes as files")
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}
PATH = os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parents[1] / "src")))


# -- without Ray --------------------------------------------------------------------------------------------------------


def test_without_ray_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match="pip install ray"):
        run_tasks([Task("a", double, (1,))], report=lambda _: None, ray="local")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_no_ray_at_the_address(address):
    with pytest.raises(UserError, match=f"no Ray at {address} .*ray start --head"):
        run_tasks([Task("a", double, (1,))], report=lambda _: None, ray=address)


def opened(*words):
    """A context of the demo of ``ich`` for these words of a command line."""
    arguments = parser("", "only", "device", "gpus", "ray", "gpu_share", "workers")
    return open_context(arguments.parse_args(["ich", "--demo", *words]), load)


@pytest.mark.parametrize("words, held", [
    ("--ray auto", [1, 1, 1]), ("--ray auto --gpus 4", [4, 4, 4]), ("--ray auto --device cpu", [0, 0, 0]), ("", [0, 0, 0]),
    ("--ray auto --gpu-share 0.5", [0.5, 0.5, 0.5]), ("--ray auto --gpu-share vgg*=0.25", [1, 0.25, 1]),
    ("--ray auto --gpu-share 0.5,*_means=0.25,resnet=1", [1, 0.25, 0.5])])
def test_each_job_asks_for_its_part_of_a_gpu(monkeypatch, words, held):
    asked = []
    monkeypatch.setattr("radstack.running.tasks.run_tasks", lambda tasks, **_: asked.extend(task.gpus for task in tasks))
    context = opened(*words.split())
    by_name = {one.name: one for one in context.experiments}
    tasks = [Task("a", hold, (by_name["resnet"],)), Task("b", hold, (by_name["vgg_means"],)), Task("c", hold, (0,))]
    monkeypatch.setattr("radstack.running.tasks.announced", lambda *_: True)
    make_all(context, [(None, task) for task in tasks])
    assert asked == held


@pytest.mark.parametrize("words, message", [
    ("--gpu-share 0.5", "add --ray"), ("--ray auto --gpus 2 --gpu-share 0.5", "leave one of them away"),
    ("--ray auto --gpu-share resent=0.5", "--gpu-share resent: no such recipe")])
def test_a_part_of_a_gpu_that_nothing_reads_is_refused(words, message):
    with pytest.raises((UsageError, UserError), match=message):
        opened(*words.split())


@pytest.mark.parametrize("word", ["0", "1.5", "-0.5", "resnet", "resnet=", "resnet=x", "nan"])
def test_what_is_no_part_of_a_gpu_is_refused(word, capsys):
    with pytest.raises(SystemExit):
        opened("--ray", "auto", f"--gpu-share={word}")
    assert "above 0 and up to 1" in capsys.readouterr().err


def test_lengths_follow_from_the_recipe():
    """A side twice as long takes four times as long, twice the epochs, copies or views twice; a few slices their share."""
    context = opened()
    base = tiny.EXPERIMENT
    wide = change(base, view__side=2 * tiny.SIDE)
    length = training_length(context, base)
    assert [training_length(context, one) / length for one in (
        wide, change(base, train__epochs=4), change(base, sampling__copies=2))] == [4, 2, 2]
    few = change(base, sampling__per_series=1)
    assert training_length(context, few) / length == pytest.approx(1 / context.competition.data.a_series)
    assert training_length(context, change(base, probe=(1.0,))) < length / base.train.epochs
    assert predicting_length(change(base, tta=("plain", "hflip"))) == 2 * predicting_length(base)
    assert predicting_length(change(base, train__seeds=2)) == 2 * predicting_length(base)


# -- on two nodes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    Cluster = pytest.importorskip("ray.cluster_utils").Cluster
    # Short: a path of a socket has at most 107 letters. The one GPU is a number that Ray counts; nothing computes on it.
    with tempfile.TemporaryDirectory(prefix="ray") as first, tempfile.TemporaryDirectory(prefix="ray") as second:
        head = {**NODE, "include_dashboard": False, "temp_dir": first, "num_gpus": 1}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.folder = second
        yield cluster
        cluster.shutdown()


@pytest.fixture
def on_ray(cluster, monkeypatch, tmp_path):
    """Runs jobs on the cluster of two nodes; their lines are kept in ``on_ray.lines``."""
    if not cluster.worker_nodes:
        cluster.second = cluster.add_node(**NODE, temp_dir=cluster.folder)
    monkeypatch.setenv("PYTHONPATH", PATH)
    monkeypatch.chdir(tmp_path)

    def run(todo, **options):
        return run_tasks(todo, report=run.lines.append, ray=cluster.address, **options)

    run.lines, run.cluster = [], cluster
    return run


@contextlib.contextmanager
def opened_process(pid):
    """A file that can be read once the process has ended."""
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


@pytest.fixture
def door():
    """Where jobs speak to the test."""
    with watchdog(), Listener(("127.0.0.1", 0)) as door:
        yield door


@pytest.mark.slow
def test_ray_started_here_gives_the_same_results(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", PATH)
    lines = []
    # Where there is no GPU nobody waits for a part of one.
    todo = [Task(f"fold {fold}", double, (fold,), gpus=0.5) for fold in (3, 1, 2)]
    assert run_tasks(todo, report=lines.append, ray="local") == [6, 2, 4]
    assert sorted(lines) == ["fold 1: doubling 1", "fold 2: doubling 2", "fold 3: doubling 3"]


@pytest.mark.slow
def test_ray_gives_the_same_failures(on_ray):
    todo = [Task("b", double, (1,))]
    with pytest.raises(LeakError, match=r"1 of 2 jobs failed: a \(patient 7"):
        on_ray([Task("a", fail, ("leak",)), *todo])
    with pytest.raises(UserError, match=r"no node .* has 4 GPUs and 1 CPUs"):
        on_ray([Task("b", double, (1,), gpus=4)])


@pytest.mark.slow
def test_ray_starts_a_killed_job_again_from_its_checkpoint(on_ray, tmp_path):
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    todo = [Task("killed", train, ("killed", 4)),
            Task("whole", train, ("whole",))]
    killed, whole = on_ray(todo, retries=1)
    assert killed == {"step": STEPS, "attempts": 2, "folder": str(tmp_path)} and whole["attempts"] == 1
    assert "killed: from step 4" in on_ray.lines
    assert any("killed: " in line and "0 more retries" in line for line in on_ray.lines)


@pytest.mark.slow
def test_ray_gives_up_when_the_retries_are_spent(on_ray, tmp_path):
    with pytest.raises(UserError, match=r"1 of 1 jobs failed: a \(its worker died once too often"):
        on_ray([Task("a", train, (".", 4))], retries=0)


@pytest.mark.slow
def test_small_jobs_share_a_gpu_and_the_longest_begin_first(on_ray, door, monkeypatch, tmp_path):
    monkeypatch.setenv("RADSTACK_COMPETITIONS", "mine")  # in the folder that the driver is in
    told = []

    def let_in():
        guests = []
        for number in range(4):  # half a GPU each, so that two are there at a time
            if number > 1:
                guests[number - 2].send("go on")
            guests.append(door.accept())
            told.append(guests[-1].recv())
        for guest in guests[2:]:
            guest.send("go on")

    helper = threading.Thread(target=let_in, daemon=True)
    helper.start()
    lengths = {"1": 1, "4": 4, "2": 2, "3": 3}
    on_ray([Task(name, hold, (name, door.address[1]), length, gpus=0.5) for name, length in lengths.items()],
           cpus_per_task=0.25)
    helper.join()
    names = [name for name, *_ in told]
    assert (sorted(names[:2]), names[2:]) == (["3", "4"], ["2", "1"])
    assert [found for *_, found in told] == [["0", str(tmp_path / "mine")]] * 4


@pytest.mark.slow
@PIDFD
def test_training_goes_on_elsewhere_when_its_node_dies(on_ray, door, tmp_path):
    """To the bit the weights of a run that nobody disturbed; the job of the other node is not touched."""
    cluster, told = on_ray.cluster, []

    def take_node_away():
        guests = [door.accept() for _ in range(2)]
        told.extend(guest.recv() for guest in guests)
        place = [node for _, node, _ in told].index(cluster.second.node_id)
        with opened_process(told[place][2]) as handle:
            cluster.remove_node(cluster.second, allow_graceful=False)
            select.select([handle], [], [])  # until the process that trained there has ended
        guests[1 - place].send("go on")
        guests.append(door.accept())
        told.append(guests[-1].recv())
        guests[-1].send("go on")

    helper = threading.Thread(target=take_node_away, daemon=True)
    helper.start()
    names = [str(tmp_path / name) for name in ("left", "right")]
    for name in names:
        Path(name).mkdir()
    results = dict(zip(names, on_ray([Task(Path(name).name, learn, (name, door.address[1])) for name in names])))
    helper.join()
    (moved,) = (name for name, node, _ in told if node == cluster.second.node_id)
    (stayed,) = set(names) - {moved}
    assert told[2][:2] == (moved, cluster.head_node.node_id)
    assert results[stayed][1] == [] and results[moved][1] == ["going on at epoch 0 step 1"]
    whole = tiny.train(tiny.make_run(tmp_path / "whole"))
    for weights, _ in results.values():
        assert weights.keys() == whole.keys() and all(torch.equal(weights[name], whole[name]) for name in whole)
    assert [line for line in on_ray.lines if "more retries" in line] == [
        line for line in on_ray.lines if line.startswith(f"{Path(moved).name}: ") and "1 more retries" in line] != []


@pytest.mark.slow
@PIDFD
@pytest.mark.parametrize("where", ["cluster", "local"])
def test_a_killed_driver_leaves_no_process(on_ray, door, where):
    """Its jobs' processes end; of a Ray that it started itself all do."""
    address = on_ray.cluster.address if where == "cluster" else "local"
    driver = subprocess.Popen([sys.executable, "-c", f"import ray_jobs; ray_jobs.drive({address!r}, {door.address[1]})"],
                              env={**os.environ, "PYTHONPATH": PATH})
    try:
        guests = [door.accept() for _ in range(2)]
        told = [guest.recv() for guest in guests]
        left = {pid for _, pid, *_ in told} | ({raylet for _, _, raylet, _ in told} if where == "local" else set())
        with contextlib.ExitStack() as opened:
            handles = [opened.enter_context(opened_process(pid)) for pid in left]
            driver.kill()
            driver.wait()
            for handle in handles:
                select.select([handle], [], [])  # until that process has ended
    finally:
        driver.kill()
        driver.wait()
