"""Jobs in this process and in others of this machine; those on Ray are in ``test_ray.py``."""

import pickle
from pathlib import Path

import pytest
from jobs import double, fail, train

from radstack.core.errors import LeakError, UserError
from radstack.core.say import say
from radstack.running.tasks import Result, Task, run_tasks


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
    assert any("Traceback" in line and "jobs.py" in line for line in lines if line.startswith("b: "))


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


def test_jobs_run_side_by_side_in_processes_of_this_machine(capfd):
    several = [Task(f"j{number}", double, (number,)) for number in range(3)]
    assert run_tasks(several, report=print, at_once=2) == [0, 2, 4]
    assert "j2: doubling 2" in capfd.readouterr().out


def test_a_killed_process_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent / "light")
    dying = [Task("a", train, (str(tmp_path), 3)), Task("b", double, (1,))]
    with pytest.raises(UserError, match=r"a \(its process was killed, perhaps for memory"):
        run_tasks(dying, report=print, at_once=2)
    assert (tmp_path / "checkpoint").exists()


def test_the_longest_begin_first_and_results_keep_their_order(monkeypatch):
    begun = []

    def one_after_another(function, items, workers):
        for place, task in enumerate(items):
            begun.append(task.name)
            yield place, Result(task.arguments)

    monkeypatch.setattr("radstack.running.tasks.outcomes", one_after_another)
    todo = [Task(name, double, (name,), length) for name, length in (("a", 1), ("b", 4), ("c", 1), ("d", 9))]
    assert run_tasks(todo, report=print, at_once=2) == [("a",), ("b",), ("c",), ("d",)]
    assert begun == ["d", "b", "a", "c"]
