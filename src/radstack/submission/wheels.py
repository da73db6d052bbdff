"""Wheels of the packages that Kaggle's image lacks, for Kaggle's Python, with everything that they need.

A notebook without a network cannot ask for a forgotten need, and a wheel that wants another numpy than the image has
would break everything that was built on the image's own. So both are looked at here, before anything is sent.
"""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

from radstack.core.errors import UserError
from radstack.core.say import Report, to_stdout

PYTHON = "3.12"
"""Kaggle's Python, November 2026."""
INTERPRETERS = ("py3", "py312", "cp312")
"""Of the wheels that run on it, besides those of the stable interface (``abi3``)."""
WITH_TORCH = ("nvidia-", "cuda-", "triton")
"""How names of packages begin that a build of torch brings along, each build its own."""
GLIBC = 35
"""Kaggle's image is an Ubuntu 22.04, whose C library is 2.35: manylinux wheels up to that one run there."""
IMAGE = """
absl-py==1.4.0 albucore==0.0.24 albumentations==2.0.8 annotated-types==0.7.0 anyio==4.13.0 attrs==26.1.0
certifi==2026.5.20 charset-normalizer==3.4.7 click==8.4.1 cloudpickle==3.1.2 contourpy==1.3.3 cycler==0.12.1
et_xmlfile==2.0.0 filelock==3.29.0 fonttools==4.63.0 fsspec==2025.3.0 h11==0.16.0 hf-xet==1.5.0 httpcore==1.0.9 httpx==0.28.1
huggingface_hub==1.17.0 idna==3.18 jinja2==3.1.6 joblib==1.5.3 kiwisolver==1.5.0 lightgbm==4.6.0 markdown-it-py==4.2.0
markupsafe==3.0.3 matplotlib==3.10.0 mdurl==0.1.2 mpmath==1.3.0 narwhals==2.22.0 networkx==3.6.1 numpy==2.0.2
opencv-python-headless==4.13.0.92 openpyxl==3.1.5 packaging==26.2 pandas==2.2.2 pillow==11.3.0 pyarrow==18.1.0
pydantic==2.12.3 pydantic_core==2.41.4 pydicom pygments==2.20.0 pyparsing==3.3.2 python-dateutil==2.9.0.post0
pytz==2025.2 pyyaml==6.0.3 requests==2.32.4 rich==13.9.4 safetensors==0.7.0 scikit-learn scipy==1.16.3
setuptools==75.2.0 simpleitk simsimd==6.5.16 six==1.17.0 stringzilla==4.6.1 sympy==1.14.0 threadpoolctl==3.6.0
timm==1.0.27 torch torchvision tqdm==4.67.3 typing_extensions==4.15.0 typing-inspection==0.4.2 tzdata==2026.2
urllib3==2.5.0 xlrd==2.0.2
"""
"""What the image has of the packages that a bundle may need, with versions where known.

Sources: ``pip-freeze.gpu.txt`` of googlecolab/backend-info (June 2026), on which Kaggle's image is built, and
``kaggle_requirements.txt`` of Kaggle/docker-python. A ``pip freeze`` of a notebook of yours knows better.
"""
TARGET = {"implementation_name": "cpython", "implementation_version": f"{PYTHON}.0", "os_name": "posix",
          "platform_machine": "x86_64", "platform_python_implementation": "CPython", "platform_release": "",
          "platform_system": "Linux", "platform_version": "", "python_full_version": f"{PYTHON}.0",
          "python_version": PYTHON, "sys_platform": "linux"}
"""What the environment markers of a requirement mean there."""

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]
"""Runs a command and holds its output as text."""


def run_quietly(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run ``command`` to its end; its output is in the result."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def read_image(text: str = IMAGE) -> dict[str, str]:
    """Package -> version, "" where unknown, of a list in the form of ``pip freeze``, or of names with blanks between."""
    lines = [line for line in text.splitlines() if not line.startswith(("#", "-"))]
    words = [word for line in lines for word in ([line.partition(" @ ")[0]] if " @ " in line else line.split())]
    items = [word.partition("==") for word in words]
    return {canonicalize_name(name): version for name, _, version in items}


def read_lock(lock: Path) -> dict[str, Requirement]:
    """Package -> requirement of the lock's lines that hold for Kaggle's Python; those that come with torch are left out."""
    if not lock.is_file():
        raise UserError(f"{lock} is missing; write the bundle again")
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(" #")[0].split(" --hash")[0].strip() for line in text.splitlines()]
    try:
        wanted = [Requirement(line) for line in lines if line and line[0] not in "#-"]
    except InvalidRequirement as error:
        raise UserError(f"{lock} has a line that pip does not know ({' '.join(str(error).split())}); write the bundle "
                        "again") from error
    return {canonicalize_name(item.name): item for item in wanted if _holds(item) and not item.name.startswith(WITH_TORCH)}


def _holds(item: Requirement, extras: Iterable[str] = ("",)) -> bool:
    return item.marker is None or any(item.marker.evaluate({**TARGET, "extra": extra}) for extra in extras)


def make_wheels(lock: Path, into: Path, packages: Sequence[str] | None = None, *, image: Mapping[str, str] | None = None,
                run: Run = run_quietly, report: Report = to_stdout) -> list[Path]:
    """Fill the folder ``into`` with the wheels that Kaggle's image needs for ``packages``, and no others.

    A wheel that is there already is kept. A package without wheels that is pure Python gets one built.

    Args:
        lock: requirements with versions, as pip reads them.
        into: folder of the wheels; other wheels in it are deleted.
        packages: those that are imported, in canonical form; all of the lock unless given. What else the lock has may be a
            need of a version that the image does not have.
        image: what the image has, of :func:`read_image`.
        run: runs pip.
        report: takes a line a package.

    Raises:
        UserError: no wheel for that Python, or one that needs another version of a package than the image has.
    """
    image = read_image() if image is None else image
    locked = read_lock(lock)
    roots = locked if packages is None else packages
    open_needs = [locked[name] for name in roots if name in locked and name not in image]
    chosen: dict[str, Path] = {}
    while open_needs:
        item = open_needs.pop(0)
        name = canonicalize_name(item.name)
        if name not in chosen:
            chosen[name] = _wheel(locked.get(name, item), into, run, report)
        open_needs += [need for need in needs(chosen[name], item.extras) if _is_open(need, name, image)]
    for path in into.glob("*.whl"):
        if path not in chosen.values():
            path.unlink()
    return sorted(chosen.values())


def _is_open(need: Requirement, by: str, image: Mapping[str, str]) -> bool:
    """Whether the image lacks ``need``, a need of package ``by``; UserError where it has one of another version."""
    has = image.get(canonicalize_name(need.name))
    if has and not need.specifier.contains(has, prereleases=True):
        raise UserError(f"{by} needs {need.name}{need.specifier}, Kaggle's image has {has}; choose another version of {by} "
                        "in the lock, or give the image's own list (type pip freeze in a notebook there)")
    return has is None and not need.name.startswith(WITH_TORCH)


def needs(wheel: Path, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """What ``wheel`` needs on Kaggle's Python."""
    with zipfile.ZipFile(wheel) as members:
        name = next(name for name in members.namelist() if name.endswith(".dist-info/METADATA"))
        head = HeaderParser().parsestr(members.read(name).decode("utf-8", "replace"))
    for line in head.get_all("Requires-Dist", []):
        if _holds(item := Requirement(line), ("", *extras)):
            yield item


def _wheel(item: Requirement, into: Path, run: Run, report: Report) -> Path:
    """The wheel of ``item`` in ``into``: the one that is there, a downloaded one, or one built from pure Python."""
    if there := _fitting(item, into):
        return there
    report(f"  wheel of {item.name}{item.specifier} for Python {PYTHON}")
    part = into / ".part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    what, answers = f"{item.name}{item.specifier}", []
    for command in (download_command(what, part), build_command(what, part)):
        answers.append(run(command))
        if found := _fitting(item, part):
            done = found.replace(into / found.name)
            shutil.rmtree(part)
            return done
    said = [line for line in answers[0].stderr.splitlines() if line.strip()]
    raise UserError(f"{what} has no wheel for Python {PYTHON} on Linux, and is not pure Python ({' '.join(said[-1:])}); "
                    "choose another version of it in the lock, or run the same command again when the network is back")


def _fitting(item: Requirement, folder: Path) -> Path | None:
    """The wheel of ``item`` in ``folder`` that runs on Kaggle's Python, if there is one."""
    wanted = canonicalize_name(item.name)
    for path in sorted(folder.glob("*.whl"), reverse=True):
        name, version, _, tags = parse_wheel_filename(path.name)
        if name == wanted and item.specifier.contains(version, prereleases=True) and any(map(_runs, tags)):
            return path
    return None


def _runs(tag: Tag) -> bool:
    on_linux = tag.platform == "any" or "manylinux" in tag.platform
    return on_linux and (tag.interpreter in INTERPRETERS or tag.abi == "abi3")


def download_command(what: str, into: Path) -> list[str]:
    """The call of pip that downloads the wheel of ``what``, without its needs, into the folder ``into``."""
    kinds = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)]
    platforms = [word for kind in (*kinds, "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64")
                 for word in ("--platform", kind)]
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--only-binary=:all:",
            "--python-version", PYTHON, "--implementation", "cp", *platforms, "--dest", str(into), what]


def build_command(what: str, into: Path) -> list[str]:
    """The call of pip that builds a wheel of ``what`` here; only one of pure Python will run elsewhere."""
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--wheel-dir", str(into), what]
