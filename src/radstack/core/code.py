"""Digests of code, so that what was made by a class or a function is made again when somebody edits it."""

import ast
import functools
import hashlib
import inspect
import json
import sys
import textwrap
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any


@functools.cache
def own_code(thing: Any) -> dict[str, str]:
    """The code of a competition's own class or function; that of radstack has a version in each artifact instead."""
    return {} if thing.__module__.startswith("radstack.") else {"code": code_digest(thing)}


def code_digest(thing: Any) -> str:
    """Sixteen hex digits of the code of a class or function without comments and docstrings; '' for one typed at a prompt.

    Whoever edits it has what was made by it made again. Other functions that it calls do not count.
    """
    return _digested(thing)


@functools.cache  # ten stackers of one method would have its file read twenty times
def _digested(thing: Any) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        return ""
    return _tree_digest(tree)


def code_of(recipe: Any) -> dict[str, str]:
    """The digest of the code that computes a recipe which names it as ``code_at``, ``module:name``; {} for other recipes.

    Everything of that module which the definition uses counts, too; what it imports does not. The module is read and not
    imported: a stage that finds nothing to do must not wait for torch.
    """
    return _code_at(getattr(recipe, "code_at", ""))


@functools.cache
def _code_at(where: str) -> dict[str, str]:
    module, _, name = where.partition(":")
    found = _definitions(module) if module else {}
    if name not in found:
        return {}
    used, left = set[str](), {name}
    while left:
        used |= left
        left = {node.id for one in left for node in ast.walk(found[one])
                if isinstance(node, ast.Name) and node.id in found} - used
    digests = sorted((one, _tree_digest(found[one])) for one in used)
    return {"computed": hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:16]}


@functools.cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """Classes, functions and constants of a module by name, as its file has them; {} where there is no file."""
    parts, path, spec = module.split("."), None, None
    try:
        for end in range(1, len(parts)):
            parent = ".".join(parts[:end])
            spec = None if parent in sys.modules else PathFinder.find_spec(parent, path)
            path = list(sys.modules[parent].__path__ if spec is None else spec.submodule_search_locations or [])
        spec = PathFinder.find_spec(module, path)
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))  # type: ignore[union-attr, arg-type]
    except (OSError, KeyError, AttributeError, TypeError, SyntaxError):
        return {}
    found: dict[str, ast.stmt] = {}
    for line in tree.body:
        if isinstance(line, (ast.ClassDef, ast.FunctionDef)):
            found[line.name] = line
        elif isinstance(line, (ast.Assign, ast.AnnAssign)):
            targets = line.targets if isinstance(line, ast.Assign) else [line.target]
            found |= {target.id: line for target in targets if isinstance(target, ast.Name)}
    return found


def _tree_digest(tree: ast.AST) -> str:
    return hashlib.sha256(json.dumps(_written(tree)).encode()).hexdigest()[:16]


def _written(node: Any) -> Any:
    """A piece of code as JSON values that are the same under every version of Python, without docstrings.

    ``ast.unparse`` chooses other quotes from 3.12 on, and ``ast.dump`` names fields that 3.11 does not have.
    """
    if isinstance(node, list):
        return [_written(one) for one in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: getattr(node, name, None) for name in node._fields if name not in ("kind", "type_comment")}
    if isinstance(node, ast.JoinedStr):  # 3.12 puts empty texts into some
        fields["values"] = [one for one in node.values if not (isinstance(one, ast.Constant) and one.value == "")]
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        fields["body"] = [line for line in node.body if not _is_text(line)]
    return [type(node).__name__, *([name, _written(value)] for name, value in fields.items() if value not in (None, []))]


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
