"""Fitted stackers as files that load without running code: numbers as JSON, arrays and forests as safetensors."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from radstack.core.errors import UserError, command
from radstack.core.files import read_json, replacing, write_json
from radstack.stack.forests import Trees
from radstack.stack.method import Fitted, Method
from radstack.stack.predictions import fitted_files
from radstack.stack.screen import Screen


def write_fitted(folder: Path, fold: int, fitted: Fitted) -> None:
    """Write :func:`radstack.stack.predictions.fitted_files`, from which :func:`read_fitted` answers to the same bits."""
    arrays: dict[str, np.ndarray] = {}
    state = _plain(fitted.state, arrays)
    guard = {"screen": _plain([fitted.screen.kept, fitted.screen.lines], arrays)} if fitted.screen else {}
    guard |= {"instead": fitted.instead, "constant": _plain(fitted.constant, arrays)} if fitted.instead else {}
    files = fitted_files(folder, fold)
    with replacing(files[0]) as part:
        save_file(arrays, part)
    write_json(files[1], {"state": state, "notes": fitted.notes, **guard})


def read_fitted(folder: Path, fold: int, method: Method) -> Fitted:
    """What :func:`write_fitted` wrote of ``method``.

    Raises:
        UserError: a file is missing or holds something else.
    """
    files = fitted_files(folder, fold)
    stored = read_json(files[1]) if files[1].exists() else {}
    try:
        arrays = load_file(files[0])
        chosen = Screen(*_restored(stored["screen"], arrays)) if "screen" in stored else None
        return Fitted(method, _restored(stored["state"], arrays), stored["notes"], chosen, stored.get("instead", ""),
                      _restored(stored.get("constant"), arrays))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{files[1]} holds no fitted stacker ({error}); run {command('07_stack')} --force, or get the "
                        "files anew") from error


def _plain(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """``value`` as JSON; what is none becomes ``{kind: ...}``, and arrays are put into ``arrays``."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        name = str(len(arrays))
        arrays[name] = np.ascontiguousarray(value)
        return {"array": name}
    if hasattr(value, "model_to_string"):  # LightGBM's booster
        return {"booster": value.model_to_string(num_iteration=value.best_iteration)}
    if isinstance(value, Trees):
        return {"forest": {field.name: _plain(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}}
    if isinstance(value, dict):  # keys need not be text
        return {"dict": [[_plain(key, arrays), _plain(item, arrays)] for key, item in value.items()]}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [_plain(item, arrays) for item in value]}
    raise TypeError(f"a stacker learned a {type(value).__name__}, which no file can hold")


def _restored(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Undo :func:`_plain`."""
    if not isinstance(value, dict):
        return value
    (kind, content), = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "booster":
        return _booster(content)
    if kind == "forest":
        return Trees(**{name: _restored(item, arrays) for name, item in content.items()})
    if kind == "dict":
        return {_restored(key, arrays): _restored(item, arrays) for key, item in content}
    return {"tuple": tuple, "list": list}[kind](_restored(item, arrays) for item in content)


def _booster(text: str) -> Any:
    """LightGBM's trees; ValueError where the text holds none."""
    import lightgbm as lgb  # half a second, and most stackers do without

    try:
        return lgb.Booster(model_str=text)
    except lgb.basic.LightGBMError as error:
        raise ValueError(str(error)) from error
