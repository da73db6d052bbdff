"""What this installation and this machine offer. Needs the standard library alone, so that it can say what is missing."""

import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from radstack.core.limits import cores as limits_cores

OK, WARN, MISSING, TODO = "ok", "warn", "missing", "to do"
"""States of a check: ``MISSING`` keeps the next stage from running, ``TODO`` is what a stage will make."""
ROOT = Path(__file__).resolve().parents[3]
INSTALL = "pip install -r requirements.txt"
GIGA = 1e9
LEAST_SHARED = 1e9
"""Bytes of shared memory below which a warning is due: containers have 64 MB by default, and a batch of 32 pictures of
3 x 512 x 512 bytes is 25 MB, of which each worker keeps two."""


@dataclass(frozen=True)
class Check:
    """One line of the doctor."""

    state: str
    """``OK``, ``WARN``, ``MISSING`` or ``TODO``."""
    name: str
    words: str
    """What was found, and what to do next where it is not well."""


def environment(demo: bool) -> list[Check]:
    """Python, packages, GPU, cores, memory, shared memory; phantoms (``demo``) need no GPU."""
    return [Check(OK, "python", f"{platform.python_version()}, {sys.executable}"), *packages(ROOT), *strangers(),
            *gpus(demo), cores(), memory(), *shared_memory()]


def needs(file: Path) -> dict[str, str]:
    """Package -> its line of ``requirements.in``, which holds what the stages need."""
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return {re.split(r"[<>=!~; \[]", line)[0]: line for line in lines if line}


def absent(file: Path = ROOT / "requirements.in") -> list[str]:
    """The stages' direct needs that are not installed."""
    return [name for name in needs(file) if not _version(name)]


def packages(root: Path) -> list[Check]:
    """One line for all direct needs that are as the lock says, and one for each other."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    lock, good, lines = locked(root / "requirements.txt"), [], []
    for name, text in needs(root / "requirements.in").items():
        version, wanted = _version(name), lock.get(canonical(name), "")
        if not version:
            lines.append(Check(MISSING, name, f"is not installed; {INSTALL}"))
        elif not Requirement(text).specifier.contains(version, prereleases=True):
            lines.append(Check(MISSING, name, f"{version} does not fit {text}; {INSTALL}"))
        elif Version(version).public != wanted:
            lines.append(Check(WARN, name, f"{version}, the lock has {wanted or 'none'}; scores may differ; {INSTALL}"))
        else:
            good.append(f"{name} {version}")
    return [Check(OK, "packages", f"{len(good)} as locked: {', '.join(good)}"), *lines]


def locked(file: Path) -> dict[str, str]:
    """Package -> version in ``requirements.txt``, of the lines whose marker holds here."""
    from packaging.requirements import Requirement

    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    wanted = [Requirement(line) for line in lines if line]
    return {canonical(one.name): next(iter(one.specifier)).version for one in wanted
            if one.marker is None or one.marker.evaluate()}


def canonical(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def strangers() -> Iterator[Check]:
    """Packages that stand in another's way: PyPI's ``apex``, a second OpenCV."""
    place = importlib.util.find_spec("apex")
    if place is not None:
        folders = [Path(folder) for folder in place.submodule_search_locations or ()]
        right = any((folder / "optimizers").exists() for folder in folders)
        yield (Check(OK, "apex", "NVIDIA's") if right else
               Check(WARN, "apex", "is PyPI's 'apex', a Pyramid toolkit and not NVIDIA's; pip uninstall apex"))
    names = {canonical(one.metadata["Name"] or "") for one in metadata.distributions()}
    rivals = sorted(name for name in names if re.fullmatch(r"opencv(-contrib)?-python(-headless)?", name))
    if len(rivals) > 1:
        yield Check(WARN, "opencv", f"{' and '.join(rivals)} overwrite each other's cv2; pip uninstall {' '.join(rivals)}, "
                    "then pip install opencv-python-headless")


def gpus(demo: bool) -> list[Check]:
    """Each GPU that torch sees: name, memory, whether it computes in bfloat16."""
    if not _version("torch"):
        return []
    import torch

    if not torch.cuda.is_available():
        return [Check(OK if demo else WARN, "GPU", "none that torch sees" + (
            "; phantoms need none" if demo else "; full recipes take weeks on a CPU: check nvidia-smi and torch's build"))]
    half = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: --set train.precision=fp16"
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [Check(OK, f"GPU {number}", f"{one.name}, {one.total_memory / GIGA:.0f} GB, {half}")
            for number, one in enumerate(found)]


def cores() -> Check:
    """The CPU cores that this process may use."""
    return Check(OK, "CPU", f"{own_cores()} of {os.cpu_count()} cores")


def processor(file: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the processor and the cores that this process may use, as ``AMD EPYC, 2 cores``."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return f"{name[1].strip() if name else platform.processor() or platform.machine()}, {own_cores()} cores"


def own_cores() -> int:
    """The CPU cores that this process may use."""
    return limits_cores()


def memory(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> Check:
    """Physical memory, or the smaller limit of the container."""
    if not hasattr(os, "sysconf"):  # Windows
        return Check(OK, "memory", "how much there is cannot be asked here; the demos need 4 GB")
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = limit.read_text(encoding="utf-8").strip() if limit.exists() else ""
    own = min(whole, int(text)) if text.isdigit() else whole
    short = "; the demos need 4: fewer --jobs and --workers" if own < 4 * GIGA else ""
    return Check(WARN if short else OK, "memory", f"{own / GIGA:.1f} GB{short}")


def shared_memory(folder: Path = Path("/dev/shm")) -> list[Check]:
    """What the workers of a DataLoader hand pictures over in; nothing where there is no such folder."""
    if not folder.exists():
        return []
    if not os.access(folder, os.W_OK):
        return [Check(WARN, "shared memory", f"{folder} cannot be written: one process reads all pictures, more slowly")]
    size = shutil.disk_usage(folder).total
    short = size < LEAST_SHARED
    advice = "; start the container with --shm-size=8g, or use --workers 1" if short else ""
    return [Check(WARN if short else OK, "shared memory", f"{size / GIGA:.2f} GB{advice}")]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
