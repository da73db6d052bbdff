"""Stages as several persons of one group run them, one after the other:  python tests/people.py ORDERS ANSWERS

``ORDERS`` is a JSON file with a list of {"person", "umask", "command"}, ``ANSWERS`` gets {"status", "said"} for each.
Person 0 is root, whose commands run in this process: what they import late is then there for the others, who may not look
into the folders of root's Python. Each command of another person runs in a fork that first gives up what root may.
"""

import contextlib
import json
import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

SRC = Path(__file__).resolve().parents[1] / "src"
GROUP = 61000


def become(person: int, umask: int) -> None:
    """Be ``person`` of the group from now on, without any right of root's."""
    os.setgroups([GROUP])
    os.setgid(GROUP)
    os.setuid(person)
    os.umask(umask)


def run(command: list[str]) -> int:
    """Run a script in this process; its status."""
    sys.argv = [str(SRC / f"{command[0]}.py"), *command[1:]]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def forked(order: dict[str, Any], source: Any) -> int:
    """Run a script as another person; its status."""
    child = os.fork()
    if child == 0:
        status = 99
        with contextlib.suppress(BaseException):
            become(order["person"], order["umask"])
            runpy.run_path = lambda name, run_name: exec(source, {"__name__": run_name, "__file__": name})  # type: ignore
            status = run(order["command"])
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def answer(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order."""
    file = SRC / f"{order['command'][0]}.py"
    source = compile(file.read_text(encoding="utf-8"), str(file), "exec")
    with tempfile.TemporaryFile("w+") as said:
        sys.stdout.flush()
        kept = os.dup(1), os.dup(2)
        for number in (1, 2):
            os.dup2(said.fileno(), number)
        status = forked(order, source) if order["person"] else run(order["command"])
        sys.stdout.flush()
        for number, before in zip((1, 2), kept):
            os.dup2(before, number)
            os.close(before)
        said.seek(0)
        return {"status": status, "said": said.read()}


if __name__ == "__main__":
    orders, answers = map(Path, sys.argv[1:])
    sys.path.insert(0, str(SRC))
    answers.write_text(json.dumps([answer(order) for order in json.loads(orders.read_text())]))
