"""What a script needs: the modules of this repository that it imports, and the packages with their needs, as locked."""

import ast
import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

from radstack.commands.environment import ROOT, canonical
from radstack.core.errors import UserError

SRC = ROOT / "src"
OURS = ("radstack", "competitions", "phantoms")
"""Packages of this repository."""
BY_NAME = ("pyarrow", "six", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "python-gdcm")
"""Packages loaded by name (the parquet reader of pandas, the decoders of pydicom), and six, a need that is not declared."""
LEFT_OUT = ("kaggle", "ray", "matplotlib", "cycler", "requests", "tensorboard", "jinja2")
"""Imports that predicting never reaches: uploads, clusters, plots, logs, pages."""


def closure(seeds: Iterable[str]) -> tuple[dict[str, Path], set[str]]:
    """Every module of this repository that the modules ``seeds`` import, and the first names of all other imports.

    Imports inside functions count as well. Modules that are imported by a computed name are seeds of their own.

    Returns:
        Module -> file, packages included; and names such as ``cv2``, without those of the standard library.
    """
    found, foreign, open_names = dict[str, Path](), set[str](), list(seeds)
    while open_names:
        name = open_names.pop()
        path = source_of(name)
        if path is None or name in found:
            continue
        found[name] = path
        wanted = [*_parents(name), *_imported(path)]
        open_names += [one for one in wanted if one.partition(".")[0] in OURS]
        foreign |= {one.partition(".")[0] for one in wanted} - set(OURS)
    return found, foreign - set(sys.stdlib_module_names) - {*found, ""}


def source_of(name: str) -> Path | None:
    """The file of a module of this repository; competitions may lie elsewhere. None where ``name`` is no module."""
    top, *rest = name.split(".")
    for place in getattr(sys.modules.get(top), "__path__", [SRC / top]):
        path = Path(place, *rest)
        for file in (path / "__init__.py", path.with_name(path.name + ".py")):
            if file.exists():
                return file
    return None


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts)))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)  # of a package: perhaps a module


def distributions(imports: Iterable[str]) -> list[str]:
    """Names of the installed packages behind ``imports`` (such as ``cv2``) and ``BY_NAME``, without ``LEFT_OUT``; sorted.

    Raises:
        UserError: one is not installed.
    """
    owners = _owners()
    wanted = sorted(set(imports) - set(LEFT_OUT))
    missing = [name for name in wanted if name not in owners]
    if missing:
        raise UserError(f"{', '.join(missing)}: imported, not installed; type: pip install -r requirements.txt")
    return sorted({canonical(owners[name][0]) for name in wanted} | set(BY_NAME))


@functools.cache
def _owners() -> Mapping[str, list[str]]:
    """First name of an import -> the installed packages that have it; reads the list of files of each."""
    return metadata.packages_distributions()


def with_needs(names: Iterable[str]) -> set[str]:
    """``names`` and the packages that they require, theirs too; what is not installed is named all the same."""
    from packaging.requirements import Requirement

    seen, found, open_needs = set[tuple[str, str]](), set[str](), [(canonical(name), "") for name in names]
    while open_needs:
        need = open_needs.pop()  # a package, or one of its extras that another asks for, as torch does of cuda-toolkit
        if need in seen:
            continue
        seen.add(need)
        found.add(need[0])
        try:
            wanted = [Requirement(text) for text in metadata.requires(need[0]) or ()]
        except metadata.PackageNotFoundError:
            continue
        open_needs += [(canonical(one.name), extra) for one in wanted for extra in ("", *one.extras)
                       if one.marker is None or one.marker.evaluate({"extra": need[1]})]
    return found


def lock_lines(names: Iterable[str], lock: Path = ROOT / "requirements.txt") -> list[str]:
    """The lines of ``lock`` for ``names`` and their needs.

    Raises:
        UserError: the lock lacks one of ``names``.
    """
    from packaging.requirements import Requirement

    names = list(names)
    lines = (line.partition("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
    named = [(canonical(Requirement(line).name), line) for line in lines if line]
    if lost := sorted(set(map(canonical, names)) - {name for name, _ in named}):
        raise UserError(f"{lock} has no line for {', '.join(lost)}; compile it again as requirements.in says")
    wanted = with_needs(names)
    return [line for name, line in named if name in wanted]
