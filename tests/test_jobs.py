"""In this process, and on a local Ray cluster of two nodes where a worker is killed and a node is taken away."""

import os
import pickle
import signal
import threading
from multiprocessing.connection import Client, Listener
from pathlib import Path

import pytest
from events import watchdog

from radstack.core.errors import LeakError, UserError
from radstack.core.say import say
from radstack.running.tasks import Task, run_tasks

STEPS = 10


def double(value):
    say(f"doubling {value}")
    return 2 * value


def fail(kind):
    errors = {"user": UserError("no such fold"), "leak": LeakError("patient 7 is in two folds"), "bug": KeyError("x")}
    raise errors[kind]


def train(folder, die_at=None, after_step=lambda: None):
    """Counts to STEPS, keeps a checkpoint of (step, pids of all attempts), dies once, right after step ``die_at``."""
    checkpoint, folder = Path(folder) / "checkpoint", Path(folder)
    step, *pids = map(int, checkpoint.read_text().split()) if checkpoint.exists() else (0,)
    say(f"from step {step}")
    while step < STEPS:
        step += 1
        (folder / "part").write_text(" ".join(map(str, [step, *pids, os.getpid()])))
        (folder / "part").rename(checkpoint)
        if step == die_at and not pids:
            os.kill(os.getpid(), signal.SIGKILL)
        after_step()
    return {"step": step, "attempts": len({*pids, os.getpid()}), "folder": str(Path.cwd())}


def where(folder, port):
    """Trains; once it has made a step it tells the test at ``port`` which node it is on, and waits to be let go on."""
    import ray
    told = []

    def tell():
        if not told:
            with Client(("127.0.0.1", port)) as test:
                told.append(ray.get_runtime_context().get_node_id())
                test.send((folder, *told))
                test.recv()

    return train(folder, after_step=tell)


def test_results_in_order_and_lines_with_the_job_name():
    lines = []
    todo = [Task(f"fold {fold}", double, (fold,)) for fold in (3, 1, 2)]
    assert run_tasks(todo, report=lines.append) == [6, 2, 4]
    assert lines == ["fold 3: doubling 3", "fold 1: doubling 1", "fold 2: doubling 2"]


def test_a_failure_does_not_stop_the_others(monkeypatch):
    monkeypatch.setattr("sys.argv", ["src/04_train.py", "ich", "--only", "a b"])
    lines = []
    todo = [Task("a", fail, ("user",)), Task("b", fail, ("bug",)),
            Task("c", double, (1,)), Task("d", fail, ("unheard of",))]
    with pytest.raises(UserError) as caught:
        run_tasks(todo, report=lines.append)
    text = str(caught.value)
    assert text.startswith("3 of 4 jobs failed: a (no such fold); b (KeyError: 'x'); d (KeyError: 'unheard of'")
    assert text.endswith("python src/04_train.py ich --only 'a b'") and "\n" not in text
    assert "c: doubling 1" in lines
    assert any("Traceback" in line and "test_jobs.py" in line for line in lines if line.startswith("b: "))


def test_a_leak_stays_a_leak():
    with pytest.raises(LeakError, match="patient 7"):
        run_tasks([Task("a", fail, ("leak",)), Task("b", fail, ("user",))],
                 report=lambda _: None)


def test_what_could_not_travel_is_refused():
    with pytest.raises(ValueError, match="same name"):
        run_tasks([Task("a", double, (1,)), Task("a", double, (2,))], report=lambda _: None)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        run_tasks([Task(name, lambda: 1) for name in "ab"], report=lambda _: None, at_once=2)


def test_progress_outside_a_job_goes_to_standard_output(capsys):
    say("step 3")
    assert capsys.readouterr().out == "step 3\n"


def test_without_ray_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match="pip install ray"):
        run_tasks([Task("a", double, (1,))], report=lambda _: None, ray="local")


NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    Cluster = pytest.importorskip("ray.cluster_utils").Cluster
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.fixture
def on_ray(cluster, monkeypatch, tmp_path):
    """Runs jobs on the cluster of two nodes; their lines are kept in ``on_ray.lines``."""
    if not cluster.worker_nodes:
        cluster.second = cluster.add_node(**NODE)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)

    def run(todo, **options):
        return run_tasks(todo, report=run.lines.append, ray=cluster.address, **options)

    run.lines, run.cluster = [], cluster
    return run


def test_jobs_run_side_by_side_in_processes_of_this_machine(capfd):
    several = [Task(f"j{number}", double, (number,)) for number in range(3)]
    assert run_tasks(several, report=print, at_once=2) == [0, 2, 4]
    assert "j2: doubling 2" in capfd.readouterr().out


def test_a_killed_process_is_an_error_that_says_so(tmp_path):
    dying = [Task("a", train, (str(tmp_path), 3)), Task("b", double, (1,))]
    with pytest.raises(UserError, match=r"a \(its process was killed, perhaps for memory"):
        run_tasks(dying, report=print, at_once=2)
    assert (tmp_path / "checkpoint").exists()


@pytest.mark.slow
def test_ray_started_here_gives_the_same_results(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    lines = []
    todo = [Task(f"fold {fold}", double, (fold,)) for fold in (3, 1, 2)]
    assert run_tasks(todo, report=lines.append, ray="local") == [6, 2, 4]
    assert sorted(lines) == ["fold 1: doubling 1", "fold 2: doubling 2", "fold 3: doubling 3"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_no_ray_at_the_address(address):
    with pytest.raises(UserError, match=f"no Ray at {address} .*ray start --head"):
        run_tasks([Task("a", double, (1,))], report=lambda _: None, ray=address)


@pytest.mark.slow
def test_ray_gives_the_same_failures(on_ray):
    todo = [Task("b", double, (1,))]
    with pytest.raises(LeakError, match=r"1 of 2 jobs failed: a \(patient 7"):
        on_ray([Task("a", fail, ("leak",)), *todo])
    with pytest.raises(UserError, match=r"no node .* has 4 GPUs and 1 CPUs"):
        on_ray(todo, gpus_per_task=4)


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
def test_ray_moves_a_job_off_a_node_that_goes_away(on_ray, tmp_path):
    folders = [tmp_path / name for name in ("left", "right")]
    for folder in folders:
        folder.mkdir()
    cluster, told, asking = on_ray.cluster, [], []

    def hear(door):
        asking.append(door.accept())
        told.append(asking[-1].recv())

    def take_node_away(door):
        for _ in folders:
            hear(door)
        cluster.remove_node(cluster.second, allow_graceful=False)
        asking[[node for _, node in told].index(cluster.head_node.node_id)].send("go on")
        hear(door)
        asking[-1].send("go on")

    with watchdog(), Listener(("127.0.0.1", 0)) as door:
        helper = threading.Thread(target=take_node_away, args=(door,), daemon=True)
        helper.start()
        port = door.address[1]
        results = on_ray([Task(one.name, where, (one.name, port)) for one in folders])
        helper.join()
    assert [result["step"] for result in results] == [STEPS, STEPS]
    assert sorted(result["attempts"] for result in results) == [1, 2]
    moved = folders[[result["attempts"] for result in results].index(2)].name
    first, last = (node for name, node in told if name == moved)
    assert first == cluster.second.node_id != last
    assert on_ray.lines.count(f"{moved}: from step 0") == on_ray.lines.count(f"{moved}: from step 1") == 1
