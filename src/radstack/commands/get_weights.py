"""The pretrained files that a competition's recipes start from: listed with their facts, fetched into one folder."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radstack.core.errors import UserError, reason
from radstack.core.files import read_json, replacing, sha256, write_json
from radstack.recipes.experiment import Backbone
from radstack.running.context import Context

LEDGER = "weights.json"
"""In the folder: file name -> what was fetched."""
UNKNOWN = "unknown until fetched"


@dataclass(frozen=True)
class Need:
    """One file, and who starts from it."""

    file: str
    origin: Any
    """:class:`radstack.nets.body.Origin`; its ``url`` is where license and checksum were read."""
    recipes: tuple[str, ...]


def needs(context: Context) -> list[Need]:
    """The published files of all recipes, those on call included, each once; a recipe's own file is the user's to bring."""
    import torch

    from radstack.nets.sources import SOURCES

    found: dict[str, Need] = {}
    for recipe, backbone in backbones(context):
        if not backbone.pretrained or backbone.weights:
            continue
        source, _, model = backbone.name.partition("/")
        with torch.device("meta"):  # nothing is computed or kept of the network
            origin = SOURCES[source].make(model, 3, backbone.args).origin
        if origin.file:
            before = found[origin.file].recipes if origin.file in found else ()
            found[origin.file] = Need(origin.file, origin, tuple(dict.fromkeys((*before, recipe))))
    return list(found.values())


def backbones(context: Context) -> Iterator[tuple[str, Backbone]]:
    """Recipe name and backbone of everything that can start from pretrained weights."""
    models, localizer = context.competition.models, context.competition.localizer
    for experiment in (*models.experiments, *models.on_call):
        if not experiment.backbone.start:  # starts from another recipe's weights
            yield experiment.name, experiment.backbone
    yield from ((one.name, one.backbone) for one in (*localizer.networks, *localizer.detectors.values()))


def get_weights(context: Context, folder: Path | None) -> None:
    """Print what is needed, and fetch into ``folder`` what is not there, which ``--weights`` then finds.

    What was fetched is noted in ``LEDGER`` there, file by file, so that a killed run loses none.

    Raises:
        UserError: a file cannot be fetched, or what came has another checksum than was noted; the others are fetched all
            the same.
    """
    ledger = read_json(folder / LEDGER) if folder and (folder / LEDGER).exists() else {}
    failed = []
    for need in needs(context):
        try:
            if folder and not context.options.dry_run:
                ledger[need.file] = _fetched(need, folder, ledger.get(need.file))
                write_json(folder / LEDGER, ledger)
        except Exception as error:  # each client fails in its own way, and all mean the same here
            failed.append(need.file)
            print(f"  failed  {need.file}: {reason(error)}")
        print("\n".join(described(need, ledger.get(need.file))))
    if failed:
        raise UserError(f"could not be fetched: {', '.join(failed)}; run the same command where their addresses can be "
                        "reached, or put them into the folder by hand")


def described(need: Need, known: dict[str, Any] | None) -> Iterator[str]:
    """Lines on one file; each fact with the place where it was read."""
    origin = need.origin
    yield f"{need.file}  for {', '.join(need.recipes)}"
    yield f"    from     {_place(origin)}"
    yield f"    size     {known['bytes'] / 1e6:,.1f} MB (the fetched file)" if known else f"    size     {UNKNOWN}"
    yield f"    license  {f'{origin.license} ({origin.license_at})' if origin.license else 'not stated by the source'}"
    yield f"    sha256   {_digest(origin, known)}"


def _place(origin: Any) -> str:
    if origin.package:
        return f"PyPI {origin.package}"
    return f"hub {origin.hub}" if origin.hub else str(origin.url)


def _digest(origin: Any, known: dict[str, Any] | None) -> str:
    from radstack.nets.pretrained import hash_in_name

    if known:
        return f"{known['sha256']} (the fetched file)"
    if origin.sha256:
        return f"{origin.sha256} (noted in nets/sources.py)"
    start = hash_in_name(origin.file)
    return f"{start}... (its name)" if start else UNKNOWN


def _fetched(need: Need, folder: Path, known: dict[str, Any] | None) -> dict[str, Any]:
    """Facts of the file in ``folder``, where it is put first if it is not there."""
    from radstack.nets import pretrained

    path, expected = folder / need.file, (known or {}).get("sha256") or pretrained.known_sha256(need.origin)
    if not path.exists():
        came = pretrained.download(need.origin)
        _check(came, expected)
        with replacing(path) as part:
            shutil.copyfile(came, part)
    return {"sha256": _check(path, expected), "bytes": path.stat().st_size, "url": need.origin.url}


def _check(path: Path, expected: str) -> str:
    """The SHA-256 of a file, which must begin with ``expected``."""
    found = sha256(path)
    if not found.startswith(expected):
        raise UserError(f"its SHA-256 is {found}, {expected} was noted; delete {path} and fetch it again")
    return found
