"""What this process may use of the machine: cores, as the scheduler and a container allow them, and open files."""

import ctypes
import os
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Of Linux's control groups, version 2 (cpu.max) or 1 (cpu/cpu.cfs_quota_us)."""
THREADS, OURS = "OMP_NUM_THREADS", "RADSTACK_THREADS"
"""Threads of a library in this process; the same where nobody but :func:`share_threads` asked for as many."""
SPARE_FILES = 64
"""Open files that a process has beside those it counts: libraries, pipes, logs."""
ENOUGH_FILES = 65_536
"""As many as a limit is raised to."""
TRIM, MMAP = -1, -3
"""Options of glibc's mallopt(3), M_TRIM_THRESHOLD and M_MMAP_THRESHOLD: bytes at the heap's end that are kept when freed,
and up to which an array lies in the heap."""
PICTURES, STEPS = 128 << 20, 2000 << 20
"""Bytes that may lie idle in a process that decodes, and in one whose networks compute on a processor."""
LARGEST_BEFORE = 32 << 20
"""The largest M_MMAP_THRESHOLD that glibc takes before version 2.35."""
_kept = [0]
"""What this process keeps by now."""


def cores(groups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Cores that this process may run on, 1 or more: those of ``taskset`` and batch systems, and a container's share.

    ``groups`` and ``own`` are where Linux says of them.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(int(share) for share in _shares(groups, own))]))


def share_threads() -> None:
    """Let libraries that are imported from now on start no more threads than there are cores for us: they count them all."""
    if cores() < (os.cpu_count() or 1) and THREADS not in os.environ:
        os.environ[THREADS] = os.environ[OURS] = str(cores())


def busy() -> tuple[float, int]:
    """Programs of the whole machine that ran or waited for a core, mean of the last minute (0 where the system does not
    say), and its cores.
    """
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1


def keep_memory(idle: int = PICTURES) -> None:
    """Keep freed memory for the next picture or step, in this process; nothing where the C library is not glibc.

    Else each array of a megabyte may go back to the system when it is freed and come again page by page, zeroed: that can
    take several times the work on it. At most ``idle`` bytes lie idle, and no array larger than a quarter of them is kept.
    Of several calls the largest ``idle`` counts.
    """
    if not sys.platform.startswith("linux") or idle <= _kept[0]:
        return
    _kept[0] = idle
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(TRIM, idle)
        if not mallopt(MMAP, idle // 4):
            mallopt(MMAP, LARGEST_BEFORE)


def _shares(groups: Path, own: Path) -> list[float]:
    """Cores' worth of time that the control group of this process has, and those around it."""
    names = [line.split(":", 2) for line in _read(own).splitlines() if line.count(":") >= 2]
    inside = [name[2].lstrip("/") for name in names if name[1] in ("", "cpu", "cpu,cpuacct")] or [""]
    shares = []
    for name in inside:
        for folder in (groups / name, *(groups / name).parents):
            if groups in (folder, *folder.parents):
                shares.append(_share(*_read(folder / "cpu.max").split()[:2]))
    first = groups / "cpu"
    shares.append(_share(_read(first / "cpu.cfs_quota_us").strip(), _read(first / "cpu.cfs_period_us").strip()))
    return [share for share in shares if share > 0]


def _share(quota: str = "", period: str = "") -> float:
    """Microseconds of time in each ``period``, as cores; 0 for no limit ("max", -1)."""
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else 0.0


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def open_files() -> int:
    """Files that may be open beyond ``SPARE_FILES``, 1 or more; the limit is raised as far as is allowed."""
    try:
        import resource
    except ImportError:  # Windows
        return 512 - SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (ValueError, OSError):  # macOS has a lower limit of its own
            pass
    return max(1, (ENOUGH_FILES if soft == resource.RLIM_INFINITY else soft) - SPARE_FILES)
