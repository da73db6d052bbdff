"""A bundle as Kaggle takes it: a private data set and a notebook that predicts the hidden test set without a network.

The kaggle package leaves folders out, or sends them as archives that the server unpacks in more than one way. So the
data set is flat: each file of the bundle lies in it under a name of its own, and ``layout-<hash>.json`` says where it
belongs. The notebook puts the bundle together again (:mod:`radstack.submission.on_kaggle`). The hash in that name is that of
the whole content, by which a later push sees that the server has it already.
"""

import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from radstack.core.errors import UserError
from radstack.core.files import read_json, replacing, sha256, write_json
from radstack.core.recipe import digest
from radstack.core.say import Report, to_stdout
from radstack.submission import on_kaggle
from radstack.submission.on_kaggle import MANIFEST

DATASET, KERNEL, WHEELS = "dataset", "kernel", "wheels"
"""Folders below ``out``: what is sent as data set, what is sent as notebook, and the wheels before they are made flat."""
DATASET_JSON, KERNEL_JSON, NOTEBOOK = "dataset-metadata.json", "kernel-metadata.json", "notebook.ipynb"
LOCK = "apply.txt"
"""File of a bundle that lists its packages, as pip reads it."""
MACHINE = "NvidiaTeslaT4"
"""The P100 that a bare ``enable_gpu`` can give has no kernels in today's torch."""
LICENSES = ("CC0-1.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-4.0", "CC-BY-NC-SA-4.0", "GPL-2.0", "ODbL-1.0", "DbCL-1.0",
            "copyright-authors", "other", "unknown")
MOST_FILES, MOST_BYTES, MOST_NOTEBOOK = 1000, 200_000_000_000, 1_000_000
"""Limits of a data set (files at the top, bytes) and of a notebook (bytes); they are not documented in one place."""
ARCHIVES = (".zip", ".gz", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar")
"""The server unpacks such files, so that they would not arrive under their names."""


@dataclass(frozen=True)
class Entry:
    """A file of the data set, as in its layout."""

    name: str
    """In the data set."""
    part: str
    """``bundle`` or ``wheels``."""
    path: str
    """Below that part, with ``/``."""
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Asked:
    """What a code competition asks of the notebook, and where it finds things at Kaggle."""

    competition: str
    """Name in its address, or ``owner/name`` of a data set that holds the test pictures."""
    marker: str
    """Name of the sample submission (with folders before it, if need be), or of the folder of test pictures."""
    pictures: Sequence[str] = ()
    """Folders beside the sample submission that may hold the test pictures, the first that is there counts; where none is,
    the one whose name has "test" in it."""
    licenses: Sequence[str] = ("other",)
    """Exactly one name of :data:`LICENSES`, for the data set."""
    columns: str = ""
    """Name of the table of what stands beside the pictures, anywhere below the notebook's input; "" for none."""
    hours: float = 0.0
    """Deadline for ``predict.py``; 0 for none."""
    arguments: Sequence[str] = ()
    """Further options of ``predict.py``; ``{marker}`` in them is where the marker lies at Kaggle."""

    @property
    def options(self) -> list[str]:
        """All options of ``predict.py``."""
        return [*(["--columns", "{columns}"] if self.columns else []),
                *(["--hours", f"{self.hours:g}"] if self.hours else []), *self.arguments]


def slugify(title: str) -> str:
    """``title`` as Kaggle writes it in addresses: lower case, hyphens between words of letters and digits."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")


def write_kernel(bundle: Path, out: Path, user: str, slug: str, asked: Asked, *, wheels: Path | None = None,
                 packages: Sequence[str] = (), title: str = "") -> None:
    """Write below ``out`` what Kaggle takes: ``dataset/`` and ``kernel/``, each with its metadata.

    Args:
        bundle: has ``manifest.json`` and ``predict.py``. Its files are linked, or copied to another disk.
        out: folder outside of ``bundle``.
        user: name at Kaggle, as in addresses.
        slug: the notebook's name in its address; the data set is called ``<slug>-bundle``.
        asked: what the competition asks.
        wheels: folder of the wheels that Kaggle's image lacks.
        packages: those that the bundle imports; lacking ones are installed from the wheels.
        title: of the notebook; the slug with blanks unless given.

    Raises:
        UserError: no bundle, or something that Kaggle would refuse.
    """
    for name in (MANIFEST, "predict.py"):
        if not (bundle / name).is_file():
            raise UserError(f"{bundle} has no {name}; it is no bundle: write it again")
    dataset = dataset_metadata(user, slug, asked.licenses)
    kernel = kernel_metadata(user, slug, title or slug.replace("-", " "), asked.competition)
    check(dataset, kernel)
    entries = flat_entries(bundle, wheels)
    layout = layout_name(entries)
    settings = {"competition": asked.competition, "marker": asked.marker, "pictures": list(asked.pictures),
                "dataset": dataset["id"], "manifest": sha256(bundle / MANIFEST), "layout": layout,
                "packages": list(packages), "columns": asked.columns, "arguments": asked.options}
    _write_dataset(out / DATASET, {"bundle": bundle, "wheels": wheels or bundle}, entries, layout, dataset)
    write_json(out / KERNEL / NOTEBOOK, notebook(settings))
    write_json(out / KERNEL / KERNEL_JSON, kernel)
    if (size := (out / KERNEL / NOTEBOOK).stat().st_size) > MOST_NOTEBOOK:
        raise UserError(f"the notebook has {size:,} bytes, Kaggle takes {MOST_NOTEBOOK:,}; name fewer packages")


def dataset_metadata(user: str, slug: str, licenses: Sequence[str]) -> dict[str, Any]:
    """The content of ``dataset-metadata.json``."""
    name = f"{slug}-bundle"
    return {"title": name.replace("-", " "), "id": f"{user}/{name}", "licenses": [{"name": name} for name in licenses],
            "isPrivate": True}


def kernel_metadata(user: str, slug: str, title: str, competition: str, version: int = 0) -> dict[str, Any]:
    """The content of ``kernel-metadata.json``; ``version`` is that of the data set, 0 while it is not known."""
    bundle = f"{user}/{slug}-bundle" + (f"/{version}" if version else "")
    its_data = "/" in competition
    return {"id": f"{user}/{slug}", "title": title, "code_file": NOTEBOOK, "language": "python", "kernel_type": "notebook",
            "is_private": True, "enable_gpu": True, "enable_tpu": False, "enable_internet": False, "machine_shape": MACHINE,
            "dataset_sources": [bundle, *([competition] if its_data else [])],
            "competition_sources": [] if its_data else [competition], "kernel_sources": [], "model_sources": []}


def check(dataset: dict[str, Any], kernel: dict[str, Any]) -> None:
    """Refuse metadata that Kaggle refuses, or takes otherwise than it is meant: a UserError of one line."""
    for problem in (*_dataset_problems(dataset), *_kernel_problems(kernel, dataset)):
        raise UserError(problem)


def _dataset_problems(metadata: dict[str, Any]) -> Iterator[str]:
    yield from _id_problems(metadata["id"], "data set", 6)
    if not 6 <= len(metadata["title"]) <= 50:
        yield f"the data set's title {metadata['title']!r} has {len(metadata['title'])} characters; Kaggle wants 6 to 50"
    names = [one["name"] for one in metadata["licenses"]]
    if len(names) != 1:
        yield f"a data set has exactly one license, not {len(names)} ({', '.join(names)}); name one of {', '.join(LICENSES)}"
    if unknown := [name for name in names if name not in LICENSES]:
        yield f"Kaggle knows no license {unknown[0]!r}; name one of {', '.join(LICENSES)}"
    if metadata.get("isPrivate") is not True:
        yield "the data set is not private; set isPrivate to true"


def _kernel_problems(metadata: dict[str, Any], dataset: dict[str, Any]) -> Iterator[str]:
    title, slug = metadata["title"], metadata["id"].rpartition("/")[2]
    yield from _id_problems(metadata["id"], "notebook", 5)
    if not 5 <= len(title) <= 50:
        yield f"the notebook's title {title!r} has {len(title)} characters; Kaggle wants 5 to 50"
    if slugify(title) != slug:
        yield f"the notebook's title {title!r} becomes {slugify(title)!r} at Kaggle, not {slug!r}; make the two agree"
    if metadata["id"] == dataset["id"]:
        yield f"the data set and the notebook share the name {slug!r}; give one of them another"
    wanted = {"is_private": True, "enable_internet": False, "enable_gpu": True, "machine_shape": MACHINE,
              "language": "python", "kernel_type": "notebook", "code_file": NOTEBOOK}
    for name, value in wanted.items():
        if metadata.get(name) != value:
            yield f"{KERNEL_JSON} has {name} = {json.dumps(metadata.get(name))}; it must be {json.dumps(value)}"
    for source in metadata["dataset_sources"]:
        if not re.fullmatch(r"[^/\s]+/[^/\s]+(/\d+)?", source):
            yield f"{source!r} is no data set at Kaggle; write owner/name or owner/name/version"
    competitions = metadata["competition_sources"]
    none = not competitions and len(metadata["dataset_sources"]) < 2
    if none or any(not name or slugify(name) != name for name in competitions):
        yield (f"{', '.join(competitions)!r} names no competition at Kaggle; give its name as in its address, or "
               "with --test-data the owner/name of a data set that holds the test pictures")


def _id_problems(ref: str, what: str, least: int) -> Iterator[str]:
    user, _, slug = ref.partition("/")
    if not re.fullmatch("[a-z0-9_-]+", user):
        yield f"{user!r} is no user's name at Kaggle; it stands in the address of your page, in small letters"
    if slugify(slug) != slug or not least <= len(slug) <= 50:
        yield (f"{slug!r} cannot be the {what}'s name at Kaggle: {least} to 50 small letters and digits with single hyphens "
               f"between, and it has {len(slug)} characters")


def flat_entries(bundle: Path, wheels: Path | None) -> list[Entry]:
    """Every file of the bundle and every wheel, with its name in the flat data set; UserError beyond Kaggle's limits."""
    files = [("bundle", path.relative_to(bundle).as_posix(), path) for path in sorted(bundle.rglob("*")) if _belongs(path)]
    if wheels is not None:
        files += [("wheels", path.name, path) for path in sorted(wheels.glob("*.whl"))]
    names = _flat_names([path if part == "bundle" else f"{part}/{path}" for part, path, _ in files])
    entries = [Entry(name, part, path, file.stat().st_size, sha256(file)) for name, (part, path, file) in zip(names, files)]
    total = sum(entry.bytes for entry in entries)
    if len(entries) + 1 > MOST_FILES or total > MOST_BYTES:
        raise UserError(f"the bundle has {len(entries) + 1:,} files and {total / 1e9:,.1f} GB; Kaggle takes {MOST_FILES:,} "
                        f"files and {MOST_BYTES / 1e9:,.0f} GB: bundle fewer models")
    return entries


def _belongs(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".pyc", ".part")


def _flat_names(paths: Sequence[str]) -> list[str]:
    """A name for each path: folders become ``__``; what Kaggle would unpack, leave out or rename gets a plain name."""
    taken: dict[str, str] = {}
    for path in paths:
        name = re.sub("[^A-Za-z0-9._-]", "-", path.replace("/", "__")).lstrip(".") or "file"
        if name.lower().endswith((*ARCHIVES, "metadata.json")) or name.startswith("dataset-cover-image"):
            name += ".bin"
        while name.lower() in taken:
            name = f"again-{name}"
        taken[name.lower()] = name
    return list(taken.values())


def layout_name(entries: Sequence[Entry]) -> str:
    """Name of the layout file, with a hash of all that the data set holds."""
    return f"layout-{digest([asdict(entry) for entry in entries])[:16]}.json"


def _write_dataset(folder: Path, parts: dict[str, Path], entries: Sequence[Entry], layout: str,
                   metadata: dict[str, Any]) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for entry in entries:
        if entry.bytes:  # empty files cannot be sent
            _link(parts[entry.part] / entry.path, folder / entry.name)
    write_json(folder / layout, [asdict(entry) for entry in entries])
    write_json(folder / DATASET_JSON, metadata)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one without links
        with replacing(target) as part:
            shutil.copyfile(source, part)


def notebook(settings: dict[str, Any]) -> dict[str, Any]:
    """The notebook, in the form of nbformat 4.5: a heading, the code of :mod:`radstack.submission.on_kaggle`, its call."""
    heading = ("# Predict the test set\n\nWritten by radstack. It finds the bundle and the test pictures below "
               "`/kaggle/input`, installs the bundle's wheels,\npredicts and writes `submission.csv`. It needs no internet.")
    call = f"SETTINGS = json.loads({json.dumps(settings)!r})\nmain(SETTINGS)"
    code = Path(on_kaggle.__file__).read_text(encoding="utf-8")
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "id": "heading", "metadata": {}, "source": heading}]
    cells += [{"cell_type": "code", "id": name, "metadata": {}, "execution_count": None, "outputs": [], "source": source}
              for name, source in (("code", code), ("call", call))]
    kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "nbformat": 4, "nbformat_minor": 5,
            "metadata": {"kernelspec": kernelspec, "language_info": {"name": "python"}}}


def code_of(path: Path) -> str:
    """The code of the notebook ``path`` as one script, for a rehearsal."""
    return "\n\n".join(cell["source"] for cell in read_json(path)["cells"] if cell["cell_type"] == "code") + "\n"


def kaggle(bundle: Path, user: str, asked: Asked, push: bool = False, *, slug: str = "", lock: Path | None = None,
           image: Path | None = None, dry_run: bool = False, report: Report = to_stdout) -> Path:
    """Make a bundle ready for Kaggle in ``<bundle>-kaggle`` beside it, wheels included, and send it if ``push``.

    Args:
        bundle: as ``bundle.py`` writes it.
        user: name at Kaggle.
        asked: what the competition asks.
        push: send the data set, wait, send the notebook, wait; needs credentials.
        slug: the notebook's name; ``radstack-<bundle>`` unless given.
        lock: the packages that the bundle imports; its own ``apply.txt`` unless given.
        image: a ``pip freeze`` of Kaggle's image; a list of June 2026 unless given.
        dry_run: say what would be made and sent, and do nothing.
        report: takes lines.

    Returns:
        The folder that holds ``dataset/`` and ``kernel/``.
    """
    from radstack.submission.kaggle import connect
    from radstack.submission.send import push as send
    from radstack.submission.wheels import IMAGE, make_wheels, read_image, read_lock

    out, slug = bundle.with_name(f"{bundle.name}-kaggle"), slug or slugify(f"radstack-{bundle.name}")
    check(dataset_metadata(user, slug, asked.licenses),
          kernel_metadata(user, slug, slug.replace("-", " "), asked.competition))
    lock, has = lock or bundle / LOCK, read_image(image.read_text(encoding="utf-8") if image else IMAGE)
    unwritten = dry_run and not lock.is_file()  # the bundle would be written before
    packages = [] if unwritten else _imported(bundle, list(read_lock(lock)))
    if dry_run:
        lacking = ", ".join(name for name in packages if name not in has) or "nothing"
        report(f"  would write {out}" + ("" if unwritten else f", with wheels of {lacking}") +
               (f", and send it as {user}/{slug}-bundle and {user}/{slug}" if push else ""))
        return out
    client = connect() if push else None  # before anything is downloaded
    make_wheels(lock, out / WHEELS, packages, image=has, report=report)
    write_kernel(bundle, out, user, slug, asked, wheels=out / WHEELS, packages=packages)
    report(f"  {out}: {DATASET}/ of {len(list((out / DATASET).iterdir())) - 1:,} files, {KERNEL}/{NOTEBOOK}")
    if push:
        send(client, out, competition=asked.competition, report=report)
    return out


def _imported(bundle: Path, locked: Sequence[str]) -> list[str]:
    """Those of the packages ``locked`` that the bundle itself imports, as its manifest says; all where it does not."""
    named = read_json(bundle / MANIFEST).get("packages") if (bundle / MANIFEST).is_file() else None
    return [name for name in locked if named is None or name in named]
