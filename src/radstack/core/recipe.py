"""Recipes are frozen dataclasses. A variant states only what differs, and an unknown name raises with the nearest one."""

import ast
import dataclasses
import difflib
import functools
import hashlib
import inspect
import json
import typing
from typing import Any, TypeVar

from radstack.core.code import code_of, own_code
from radstack.core.errors import UserError

R = TypeVar("R")
QUIET = {"quiet": True}
"""Metadata of a recipe's field that is part of keys and manifests only where it is set."""
BARE = {str, int, float, bool, type(None)}
"""What is a JSON value as it is."""
REMARK = {"remark": True}
"""Metadata of a field that no result depends on: keys and manifests have its default, whatever it says."""


def change(recipe: R, **edits: Any) -> R:
    """Return a copy of ``recipe`` with ``edits``; ``optim__lr=1e-4`` reaches into the field ``optim``.

    An item of a tuple is reached by its number or its name (``channels__0__window``, ``steps__bone_mask__experiment``), an
    entry of a dict by its key. What belongs together is set together: a recipe is checked when all of its edits are in.
    UserError where a name is not a field, with the nearest name that is, or a value does not fit.
    """
    return _edited(recipe, [(path.split("__"), value) for path, value in edits.items()], "")


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
    """Dataclasses and functions, also within lists and dicts, as dicts that name them and hold :func:`own_code`.

    Other objects that can be called, and sets, are taken apart as well: their text differs from run to run.
    """
    if type(recipe) in BARE:  # first, since a digest may be of millions of them
        return recipe
    if hasattr(recipe, "__wrapped__"):
        recipe = inspect.unwrap(recipe)
    if isinstance(recipe, (set, frozenset)):
        return sorted((_plain(item) for item in recipe), key=str)
    if isinstance(recipe, (list, tuple)):
        return [_plain(item) for item in recipe]
    if isinstance(recipe, dict):
        return {name: _plain(value) for name, value in recipe.items()}
    if inspect.isfunction(recipe):
        return {"is": recipe.__qualname__, **own_code(recipe)}
    if isinstance(recipe, functools.partial):
        return {"is": "partial", "of": _plain(recipe.func), "args": _plain(recipe.args), "keywords": _plain(recipe.keywords)}
    if inspect.ismethod(recipe):
        return {"is": recipe.__qualname__, **own_code(recipe.__func__), "of": _plain(recipe.__self__)}
    if isinstance(recipe, type):
        return {"is": recipe.__qualname__, **own_code(recipe)}
    kind: Any = type(recipe)
    if _is_own(recipe):
        return {"is": kind.__name__, **own_code(kind), **_plain(vars(recipe))}
    if not dataclasses.is_dataclass(recipe):
        return recipe
    fields = {name: _plain(value) for name, value in set_fields(recipe).items()}
    return {"is": kind.__name__, **own_code(kind), **code_of(recipe), **fields}


def _is_own(thing: Any) -> bool:
    """Whether it is no recipe and yet an object of a class that someone wrote so that it can be called."""
    return (not dataclasses.is_dataclass(thing) and callable(thing) and hasattr(thing, "__dict__")
            and inspect.isfunction(inspect.getattr_static(type(thing), "__call__", None)))


def set_fields(recipe: Any) -> dict[str, Any]:
    """The fields of a dataclass and their values, without the ``QUIET`` ones that are not set and with no ``REMARK``."""
    shown = [field for field in dataclasses.fields(recipe)
             if not (field.metadata.get("quiet") and getattr(recipe, field.name) == field.default)]
    return {field.name: field.default if field.metadata.get("remark") else getattr(recipe, field.name) for field in shown}


def _edited(old: Any, edits: list[tuple[list[str], Any]], where: str) -> Any:
    """``old``, a recipe, tuple or dict, with ``edits``: paths within it and values. ``where`` names it in errors."""
    groups: dict[Any, list[tuple[list[str], Any]]] = {}
    for (head, *rest), value in edits:
        groups.setdefault(_place(old, head, where), []).append((rest, value))
    made = {place: _merged(old, place, own, f"{where}.{place}".lstrip(".")) for place, own in groups.items()}
    if dataclasses.is_dataclass(old) and not isinstance(old, type):
        return dataclasses.replace(old, **made)
    return {**old, **made} if isinstance(old, dict) else tuple(made.get(number, item) for number, item in enumerate(old))


def _merged(old: Any, place: Any, edits: list[tuple[list[str], Any]], where: str) -> Any:
    """The part of ``old`` at ``place`` with its own edits, in their order; a whole value replaces what came before it."""
    part = getattr(old, place) if isinstance(place, str) and dataclasses.is_dataclass(old) else (
        old.get(place) if isinstance(old, dict) else old[place])
    whole = [number for number, (path, _) in enumerate(edits) if not path]
    if whole:
        value = edits[whole[-1]][1]
        part = value if isinstance(old, dict) else _like(where, part, value, _kinds(old, place))
    within = edits[whole[-1] + 1:] if whole else edits
    return _edited(part, within, where) if within else part


def _place(old: Any, head: str, where: str) -> Any:
    """Name of the field, number of the item or key of the entry that ``head`` says; a UserError where there is none."""
    if dataclasses.is_dataclass(old) and not isinstance(old, type):
        names = [field.name for field in dataclasses.fields(old)]
        if head not in names:
            near = difflib.get_close_matches(head, names, n=1, cutoff=0)
            raise UserError(f"{type(old).__name__} has no field '{head}'; did you mean '{near[0]}'?" if near else
                            f"{type(old).__name__} has no fields, so none called '{head}'")
        return head
    if isinstance(old, dict):
        return head
    if isinstance(old, tuple) and old:
        names = [_name_of(item) or str(number) for number, item in enumerate(old)]
        if head in names:
            return names.index(head)
        if head.isdecimal() and int(head) < len(old):
            return int(head)
        raise UserError(f"{where} has no item '{head}'; take one of {', '.join(names)}")
    raise UserError(f"{where} has no parts; set it as a whole")


def _name_of(item: Any) -> str:
    """The name of a recipe, or of the one recipe with a name that it holds; '' for none."""
    if not dataclasses.is_dataclass(item) or isinstance(item, type):
        return ""
    parts = [item, *(getattr(item, field.name) for field in dataclasses.fields(item))]
    names = (getattr(part, "name", None) for part in parts if dataclasses.is_dataclass(part))
    return next((name for name in names if isinstance(name, str)), "")


def _kinds(old: Any, place: Any) -> tuple[type, ...]:
    """The recipes that may stand at ``place``, as the field's annotation says."""
    if not dataclasses.is_dataclass(old) or isinstance(old, type):
        return ()
    hint = _hints(type(old)).get(place)
    return tuple(kind for kind in (hint, *typing.get_args(hint))
                 if isinstance(kind, type) and dataclasses.is_dataclass(kind))


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """The annotations of a recipe's fields."""
    return typing.get_type_hints(kind)


def _like(name: str, old: Any, value: Any, kinds: tuple[type, ...] = ()) -> Any:
    """Coerce a command-line value to the kind of the one it replaces; refuse what cannot be."""
    if isinstance(old, float) and isinstance(value, int):
        return float(value)
    if isinstance(value, (list, tuple)) and isinstance(old, tuple):
        return _items(name, old, value, kinds)
    if dataclasses.is_dataclass(old) and dataclasses.is_dataclass(value):
        return value  # a recipe of another kind, e.g. of another loss
    if dataclasses.is_dataclass(old) and isinstance(value, (str, dict)):
        return _built(name, value, type(old), kinds)
    if old is None and isinstance(value, (str, dict, list, tuple, int, float)):
        raise UserError(f"{name} takes what a command line cannot write, not {value!r}; change() it in the recipe's file")
    if old is not None and value is not None and not isinstance(value, type(old)):
        raise UserError(f"{name} takes a {type(old).__name__} such as {old!r}, not {value!r}")
    return value


def _items(name: str, old: tuple[Any, ...], value: Any, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    """A tuple; its dicts become recipes of the kind that the others are, or that the field takes."""
    kind = next((type(item) for item in old if dataclasses.is_dataclass(item)), next(iter(kinds), None))
    if kind is None:
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return tuple(_built(f"{name}.{number}", item, kind, (kind,)) if isinstance(item, (str, dict)) else item
                 for number, item in enumerate(value))


def _built(name: str, value: str | dict[str, Any], usual: type, kinds: tuple[type, ...]) -> Any:
    """A recipe from the name of its class, or a dict of its fields: ``{"is": "FourSteps", "iterations": [8, 4, 8, 4]}``."""
    fields = {"is": value} if isinstance(value, str) else dict(value)
    known = {kind.__name__: kind for kind in (usual, *kinds)}
    wanted = str(fields.pop("is", usual.__name__))
    if wanted not in known:
        raise UserError(f"{name} takes {' or '.join(known)}, not {wanted!r}")
    own = {field.name: field for field in dataclasses.fields(known[wanted])}
    for given in fields:
        if given not in own:
            near = difflib.get_close_matches(given, own, n=1, cutoff=0)
            raise UserError(f"{wanted} has no field '{given}'; did you mean '{near[0]}'?")
    try:
        return known[wanted](**{given: _frozen(one) for given, one in fields.items()})
    except TypeError as error:
        raise UserError(f"{name}: {error}") from error


def _frozen(value: Any) -> Any:
    """Lists as tuples, at any depth."""
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value
