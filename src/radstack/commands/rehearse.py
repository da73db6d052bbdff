"""Rehearse a bundle: the test set from the bundle alone, in an environment of its lock alone, without network.

What stands between a solution and a notebook without internet is found here: a file that the repository lent, a package
that nobody locked, a download at the first use. The answer is compared with the submission of stage 08.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterable, Sequence
from glob import escape
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from radstack.commands.environment import ROOT, canonical, locked
from radstack.core.artifact import manifest_of
from radstack.core.errors import Missing, UserError
from radstack.core.files import read_json, read_table, write_json, write_table, write_text
from radstack.core.say import say
from radstack.images.own.source import TEST, Source
from radstack.running.context import Context
from radstack.running.tables import read_index

HOURS = 9.0
"""What a notebook has in a code competition."""
APART = "mount --bind \"$1\" \"$2\"; mount -o remount,bind,ro \"$2\"; mount -t tmpfs none \"$3\"; shift 3; exec \"$@\""
"""Shell: the folder 1 read-only at 2, nothing left in 3, then the program."""
PREFIXES = (("unshare", "--net", "--mount"), ("unshare", "--map-root-user", "--net", "--mount"))
"""Ways to a process without network and with mounts of its own: for root, for others where the system allows it."""
WATCH = '''"""Part of a rehearsal: notes at the end where each module came from; without unshare it refuses the network."""

import atexit
import os
import socket
import sys


def note():
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    with open(os.environ["REHEARSAL_MODULES"], "a", encoding="utf-8") as out:
        out.writelines(f"{name}\\t{file}\\n" for name, file in sorted(files.items()) if file)


def refuse(event, values):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        if not (hasattr(values[0], "family") and values[0].family == getattr(socket, "AF_UNIX", None)):
            raise OSError("no network in a rehearsal")


if "REHEARSAL_MODULES" in os.environ:
    atexit.register(note)
    if os.environ.get("REHEARSAL_REFUSE"):
        sys.addaudithook(refuse)
'''
"""``rehearsal_watch.py`` of the environment, which a ``.pth`` file imports at each start. Not ``sitecustomize.py``: that of
Debian's Python comes before it."""
COMPANIONS = (".mhd", ".hdr", ".img")
"""Suffixes of pictures that have a second file of the same stem."""


def rehearse(context: Context, bundle: Path, times: int = 1, kernel: Path | None = None) -> dict[str, Any]:
    """Predict the test set by ``bundle`` alone and compare with ``submissions/<name>/<final>.csv``.

    With ``times`` above 1 a test set so many times as large is drawn and predicted as well, for its time and memory.
    ``kernel`` is what was written for Kaggle: its notebook is run as well.

    Returns:
        Seconds, peak memory and the comparison, as written to ``bundles/<name>_rehearsal.json``.

    Raises:
        UserError: no submission is there, the bundle fails, reads from elsewhere, or answers otherwise than stage 08; a
            bundle of ``--half`` may differ.
    """
    final = context.competition.models.final
    submission = context.paths.submissions / f"{final}.csv"
    if not submission.exists():
        raise Missing(submission)
    if times > 1 and context.competition.phantoms is None:
        raise UserError("--times draws phantoms, and real pictures cannot be drawn; add --demo, or leave it out")
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        place = Path(folder)
        python = make_environment(bundle / "apply.txt", place / "environment")
        index, quarantine = read_index(context), read_table(context.paths.folds / "quarantine.csv", "")
        found = predict_set(context, bundle, python, (index, quarantine), context.paths.input, place / "test")
        found |= compared(place / "test" / "out.csv", submission, context.competition.submission.id_columns)
        if kernel:
            found["notebook"] = rehearse_notebook(context, kernel, python, place / "notebook")
        if times > 1:
            found["larger"] = predict_larger(context, bundle, python, times, place)
    write_json(bundle.with_name(f"{bundle.name}_rehearsal.json"), found)
    for what, one in (("bundle", found), ("notebook", found.get("notebook", {"equal": True}))):
        if not one["equal"] and not read_json(bundle / "manifest.json")["half"]:
            raise UserError(f"the {what} answers otherwise than stage 08: {one['difference']}; was stage 08 run after the "
                            f"last change? {context.command('08_submit')}")
    return found


def rehearse_notebook(context: Context, kernel: Path, python: Path, place: Path) -> dict[str, Any]:
    """Run the notebook of ``kernel``, as it was written for Kaggle, on the test set, and compare its submission.

    Below ``place`` it finds the data set and the pictures as Kaggle mounts them, read-only; it has ``python``, an
    environment with the bundle's packages, and neither network nor repository.

    Raises:
        UserError: it fails, or reads from elsewhere.
    """
    from radstack.submission.kernel import DATASET, KERNEL, KERNEL_JSON, NOTEBOOK, code_of

    source, index, inputs = context.paths.input, read_index(context), place / "there"
    metadata = read_json(kernel / KERNEL / KERNEL_JSON)
    link_pictures(kernel / DATASET, [path.name for path in (kernel / DATASET).iterdir()],
                  inputs / "datasets" / metadata["dataset_sources"][0])
    home = inputs / "competitions" / (*metadata["competition_sources"], "pictures")[0]
    sample = context.competition.data.sample_file(source).relative_to(source)
    tests = {str(name) for rows in (index, read_table(context.paths.folds / "quarantine.csv", ""))
             for name in rows.loc[rows["split"] == "test", "path"].dropna()}
    link_pictures(source, sorted({*tests, str(sample), *tables(context, source)}), home)
    write_text(place / "notebook.py", code_of(kernel / KERNEL / NOTEBOOK))
    seen, working, scratch = (place / name for name in ("input", "working", "scratch"))
    for folder in (seen, working, scratch):
        folder.mkdir()
    prefix = apart(inputs, seen)
    more = {"RADSTACK_KAGGLE_INPUT": str(seen if prefix else inputs), "RADSTACK_KAGGLE_WORKING": str(working),
            "TMPDIR": str(scratch), "KAGGLE_IS_COMPETITION_RERUN": "1"}
    before = listing(inputs)
    found = timed([*prefix, str(python), "-I", str(place / "notebook.py")], place, not prefix, "the notebook", more)
    if listing(inputs) != before:
        raise UserError("the notebook changed its inputs, which it may only read")
    check_modules(place / "modules.txt", (python.parents[1], place))
    print(f"  the notebook: {found['seconds']:.1f} s, {found['share']:.2%} of {HOURS:g} hours", flush=True)
    submitted = context.paths.submissions / f"{context.competition.models.final}.csv"
    return found | compared(working / "submission.csv", submitted, context.competition.submission.id_columns)


def tables(context: Context, source: Path) -> list[str]:
    """Tables of what stands beside the pictures, below ``source``: Kaggle has them beside the test pictures, too."""
    data = context.competition.data
    given = (data.columns_file(source) if data.columns_file else None,
             source / TEST if isinstance(data.recipe, Source) else None)
    return [path.relative_to(source).as_posix() for path in given if path and path.exists()]


def make_environment(lock: Path, place: Path) -> Path:
    """An environment with the packages of ``lock`` and no other: linked where this one has them so, else installed.

    Returns:
        Its Python.

    Raises:
        UserError: they are neither here nor can they be installed.
    """
    venv.EnvBuilder(symlinks=os.name != "nt", with_pip=False).create(place)
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(sysconfig.get_path("purelib", vars={"base": str(place)}))
    wanted = locked(lock)
    here = {canonical(one.metadata["Name"] or ""): one for one in metadata.distributions()}
    if all(name in here and here[name].version.partition("+")[0] == version for name, version in wanted.items()):
        link_packages(here, set(wanted), site)
        how = "linked from this environment"
    else:
        how = "installed"
        done = subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "-r", str(lock)],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"the packages of {lock} are not here as locked and cannot be installed "
                            f"({(done.stderr.strip().splitlines() or ['pip failed'])[-1]}); pip install -r requirements.txt")
    (site / "rehearsal_watch.py").write_text(WATCH, encoding="utf-8")
    (site / "rehearsal_watch.pth").write_text("import rehearsal_watch\n", encoding="utf-8")
    print(f"  environment: {len(wanted)} packages, {how}", flush=True)
    return python


def link_packages(here: dict[str, metadata.Distribution], wanted: set[str], site: Path) -> None:
    """Link the files of the distributions ``wanted`` into ``site``; a folder that others write into, file by file."""
    owners: dict[str, set[str]] = {}
    for name, distribution in here.items():
        for file in distribution.files or ():
            owners.setdefault(file.parts[0], set()).add(name)
    for name in wanted:
        for file in here[name].files or ():
            whole = owners[file.parts[0]] <= wanted
            parts = file.parts[:1] if whole else file.parts
            source, target = Path(str(here[name].locate_file("/".join(parts)))), site.joinpath(*parts)
            if ".." not in parts and source.exists() and not target.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source.absolute())


def predict_set(context: Context, bundle: Path, python: Path, listed: tuple[pd.DataFrame, pd.DataFrame], source: Path,
                place: Path) -> dict[str, Any]:
    """Predict the test pictures of an index and its quarantine, of ``source``, into ``place/out.csv``; seconds and memory.

    ``predict.py`` finds them read-only at another path, sees neither network nor repository, and starts elsewhere.
    """
    names = {str(name) for rows in listed for name in rows.loc[rows["split"] == "test", "path"].dropna()}
    link_pictures(source, sorted(names), place / "pictures")
    table = beside(context, listed[0], source, place)
    seen, before = place / "mounted" / "Prüfung 1", listing(place / "pictures")
    seen.mkdir(parents=True)
    prefix = apart(place / "pictures", seen)
    if not prefix:
        seen.rmdir()
        seen.symlink_to(place / "pictures", target_is_directory=True)
    device = ["--device", context.options.device] if context.options.device else []
    command = [*prefix, str(python), "-I", str(bundle.resolve() / "predict.py"), str(seen), str(place / "out.csv"),
               "--sample-submission", str(context.competition.data.sample_file(source).resolve()), "--columns",
               str(table), "--workers", str(context.options.workers), *device]
    print(f"  {len(before):,} files, {'read-only at another path' if prefix else 'linked at another path'}; network "
          f"{'cut off by unshare' if prefix else 'refused in Python'}", flush=True)
    found = timed(command, place, refuse=not prefix)
    if listing(place / "pictures") != before:
        raise UserError("predict.py changed the folder of the pictures, which it may only read")
    check_modules(place / "modules.txt", (python.parents[1], bundle))
    print(f"  {found['seconds']:.1f} s, {found['share']:.2%} of {HOURS:g} hours, {found['peak_mb']:,} MB in the largest "
          "process", flush=True)
    return found | {"files": len(before), "network": "unshare" if prefix else "refused"}


def link_pictures(source: Path, names: Iterable[str], place: Path) -> None:
    """Hard links (copies on another disk) below ``place`` to the pictures ``names`` of ``source``: files, or folders."""
    place.mkdir(parents=True)
    for name in names:
        path = source / name
        files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path] if path.exists() else []
        if path.suffix in COMPANIONS:
            files = list(path.parent.glob(f"{escape(path.stem)}.*"))
        for file in files:
            target = place / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file.resolve(), target)
            except FileExistsError:
                continue
            except OSError:
                shutil.copy2(file, target)


def beside(context: Context, index: pd.DataFrame, source: Path, place: Path) -> Path:
    """The table of what stands beside the test pictures: the user's own, else one below ``place`` of what the index says."""
    own, table = source / TEST, place / "columns.csv"
    if isinstance(context.competition.data.recipe, Source) and own.exists():
        return own.resolve()  # its index has the user's columns as numbers, under other names
    write_table(table, columns_of(index, context.competition.targets))
    return table


def columns_of(index: pd.DataFrame, targets: tuple[str, ...]) -> pd.DataFrame:
    """What an index says of its test pictures, as a user's table: a row a file (``file``), its patient ``subject``."""
    test = index[index["split"] == "test"].drop_duplicates("path")
    return test.drop(columns=["split", *targets]).rename(columns={"group": "subject"}).assign(file=test["path"])


def apart(source: Path, target: Path) -> list[str]:
    """Words to put before a command so that it runs without network and repository, ``source`` read-only at ``target``.

    Empty where this system does not allow it.
    """
    for prefix in PREFIXES:
        words = [*prefix, "sh", "-ec", APART, "sh", str(source), str(target), str(ROOT / "src")]
        if shutil.which(prefix[0]) and not subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
            return words
    return []


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below ``folder``: size, time of modification (ns)."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def timed(command: list[str], place: Path, refuse: bool, what: str = "predict.py",
          more: dict[str, str] | None = None) -> dict[str, Any]:
    """Run ``command`` in ``place``; its seconds, start included, their share of ``HOURS`` and the peak memory in MB.

    Raises:
        UserError: it failed; ends in the last line that it wrote.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RADSTACK"))}
    environment |= {"REHEARSAL_MODULES": str(place / "modules.txt"), "REHEARSAL_REFUSE": "1" * refuse, **(more or {})}
    start = time.monotonic()
    with (place / "said.txt").open("w", encoding="utf-8") as said:
        running = subprocess.Popen(command, cwd=place, env=environment, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - start
    if running.returncode:
        lines = (place / "said.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise UserError(f"{what} failed in the rehearsal: {(lines or ['it said nothing'])[-1].removeprefix('error: ')}")
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024
    return {"seconds": round(seconds, 1), "share": seconds / 3600 / HOURS, "peak_mb": round(usage.ru_maxrss / unit)}


def check_modules(noted: Path, allowed: tuple[Path, ...]) -> None:
    """Raise unless every module in ``noted`` (name, tab, file a line) lies in ``allowed`` or the standard library."""
    libraries = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
    places = {one for folder in allowed for one in (folder.absolute(), folder.resolve())}
    strangers = []
    for line in noted.read_text(encoding="utf-8").splitlines():
        name, _, file = line.partition("\t")
        path = Path(file)
        lies_in = {*path.parents, *path.resolve().parents}  # Debian's sitecustomize.py is a link to /etc
        standard = libraries & lies_in and not {"site-packages", "dist-packages"} & set(path.parts)
        if path.is_absolute() and not standard and not places & set(path.parents):  # torch.ops says ``_ops.py``
            strangers.append(f"{name} ({file})")
    if strangers:
        raise UserError(f"modules from outside the bundle and its environment: {', '.join(strangers[:3])}; add them to "
                        "radstack/commands/needs.py")


def compared(made: Path, submission: Path, text: Sequence[str] = ()) -> dict[str, Any]:
    """``equal``: whether both files have the same bytes; ``difference``: the largest one, and where, in words.

    ``text`` are the columns that name a row.

    Raises:
        UserError: they have other rows or columns.
    """
    if made.read_bytes() == submission.read_bytes():
        print(f"  the same bytes as {submission}", flush=True)
        return {"equal": True, "difference": ""}
    ours, theirs = (read_table(file, text=tuple(text)) for file in (made, submission))
    numbers = list(theirs.select_dtypes("number"))
    names = [name for name in theirs if name not in numbers] or list(theirs)[:1]
    if list(ours) != list(theirs) or not ours[names].equals(theirs[names]):
        raise UserError(f"the bundle's answer has other rows or columns than {submission}; run stage 08 again")
    away = (ours[numbers] - theirs[numbers]).abs().stack()
    row, column = away.idxmax()
    words = f"at most {away.max():.3g}, in {column} of {' '.join(map(str, ours.loc[row, names]))}"
    print(f"  differs from {submission} by {words}", flush=True)
    return {"equal": False, "difference": words, "largest": float(away.max())}


def predict_larger(context: Context, bundle: Path, python: Path, times: int, place: Path) -> dict[str, Any]:
    """Draw ``times`` as many phantoms as there are, and predict those of test: seconds and memory at that size."""
    phantoms = context.competition.phantoms
    assert phantoms is not None
    drawn = manifest_of(context.paths.input)
    size = read_json(drawn)["series"] if drawn.exists() else phantoms.size
    source, workers = place / "drawn", context.options.workers
    phantoms.draw(source, series=size * times, workers=workers)
    listed = context.competition.data.index(source, workers, place / "parts", report=say)
    return {"times": times} | predict_set(context, bundle, python, listed, source, place / "larger")
