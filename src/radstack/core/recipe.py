"""Recipes are frozen dataclasses. A variant states only what differs, and an unknown name raises with the nearest one."""

import ast
import dataclasses
import difflib
import functools
import hashlib
import inspect
import json
import textwrap
from typing import Any, TypeVar

from radstack.core.errors import UserError

R = TypeVar("R")


def change(recipe: R, **edits: Any) -> R:
    """Return a copy of ``recipe`` with ``edits``; ``optim__lr=1e-4`` reaches into the field ``optim``.

    UserError where a name is not a field, with the nearest name that is.
    """
    for path, value in edits.items():
        recipe = _set(recipe, path.split("__"), value)
    return recipe


def parse_edits(pairs: list[str]) -> dict[str, Any]:
    """Turn ``["optim.lr=1e-4", "view.size=480"]`` of the command line into edits for :func:`change`."""
    edits = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair} has no '='; write for example --set optim.lr=1e-4")
        try:
            edits[name.replace(".", "__")] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            edits[name.replace(".", "__")] = text
    return edits


def as_dict(recipe: Any) -> Any:
    """The recipe as plain JSON values, for manifests."""
    return json.loads(json.dumps(_plain(recipe), default=str))


def digest(*parts: Any) -> str:
    """Sixteen hex digits that change when any of the JSON-able ``parts`` or recipes changes."""
    text = json.dumps([_plain(part) for part in parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(recipe: Any) -> Any:
    """Dataclasses and functions, also within lists and dicts, as dicts that name them and hold :func:`_code`."""
    if isinstance(recipe, (list, tuple)):
        return [_plain(item) for item in recipe]
    if isinstance(recipe, dict):
        return {name: _plain(value) for name, value in recipe.items()}
    if inspect.isfunction(recipe):
        return {"is": recipe.__qualname__, **_code(recipe)}
    if not dataclasses.is_dataclass(recipe) or isinstance(recipe, type):
        return recipe
    fields = {field.name: _plain(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}
    return {"is": type(recipe).__name__, **_code(type(recipe)), **fields}


@functools.cache
def _code(thing: Any) -> dict[str, str]:
    """The code of a competition's own class or function; that of radstack has a version in each artifact instead."""
    return {} if thing.__module__.startswith("radstack.") else {"code": code_digest(thing)}


def code_digest(thing: Any) -> str:
    """Sixteen hex digits of the code of a class or function without comments and docstrings; '' for one typed at a prompt.

    Whoever edits it has what was made by it made again. Other functions that it calls do not count.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _set(recipe: Any, path: list[str], value: Any) -> Any:
    names = [field.name for field in dataclasses.fields(recipe)]
    head, *rest = path
    if head not in names:
        near = difflib.get_close_matches(head, names, n=1, cutoff=0)
        raise UserError(f"{type(recipe).__name__} has no field '{head}'; did you mean '{near[0]}'?")
    old = getattr(recipe, head)
    if rest and not dataclasses.is_dataclass(old):
        raise UserError(f"{type(recipe).__name__}.{head} has no parts; set it as a whole")
    return dataclasses.replace(recipe, **{head: _set(old, rest, value) if rest else _like(head, old, value)})


def _like(name: str, old: Any, value: Any) -> Any:
    """Coerce a command-line value to the kind of the one it replaces; refuse what cannot be."""
    if isinstance(old, float) and isinstance(value, int):
        return float(value)
    if isinstance(old, tuple) and isinstance(value, list):
        return tuple(value)
    if dataclasses.is_dataclass(old) and dataclasses.is_dataclass(value):
        return value  # a recipe of another kind, e.g. of another loss
    if old is not None and value is not None and not isinstance(value, type(old)):
        raise UserError(f"{name} takes a {type(old).__name__} such as {old!r}, not {value!r}")
    return value
