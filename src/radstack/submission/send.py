"""Send a bundle and its notebook to Kaggle in the order in which Kaggle takes them, and believe only what it has.

The client's answers count, not what it prints; but it can also lose a file and report success. So the server is asked what
it has before a notebook is started on it. Each call can be repeated: what has arrived is not sent again.
"""

import contextlib
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from radstack.core.errors import UserError
from radstack.core.files import read_json, write_json
from radstack.core.say import Report, to_stdout
from radstack.submission.kernel import DATASET, DATASET_JSON, KERNEL, KERNEL_JSON, check

DATASET_WAIT, DATASET_LOOKS = 10.0, 360
"""Seconds between two looks at a data set that is not ready, and how many looks are taken: an hour."""
KERNEL_WAIT, KERNEL_LOOKS = 30.0, 1440
"""The same of a notebook: twelve hours, of which it may run nine."""
PAGE = 200  # Files in one answer
AGAIN = "run the same command again"
READY, FAILED, DELETED = "ready", "failed", "deleted"
NOT_THERE = (403, 404)
"""Kaggle answers so where there is no such data set, where it is another's, and before its first version is ready."""
T = TypeVar("T")
Sleep = Callable[[float], None]


@dataclass(frozen=True)
class Sent:
    """What Kaggle holds after a push."""

    kernel_version: int
    kernel: str
    """``user/slug``."""


def push(client: Any, out: Path, *, competition: str, sleep: Sleep = time.sleep, report: Report = to_stdout) -> Sent:
    """Send ``out``, as ``write_kernel`` made it: the data set first, then the notebook; wait for both.

    Args:
        client: an authenticated ``KaggleApi``.
        out: holds ``dataset/`` and ``kernel/``.
        competition: its name, for what to type in the end; ``owner/name`` where the test pictures are a data set.
        sleep: takes seconds; called between two looks.
        report: takes lines.

    Raises:
        UserError: anything that Kaggle refuses, loses, or does not finish; says what to do.
    """
    dataset, kernel = read_json(out / DATASET / DATASET_JSON), read_json(out / KERNEL / KERNEL_JSON)
    check(dataset, kernel)
    _same_user(client, kernel["id"])
    version = send_dataset(client, out / DATASET, dataset["id"], sleep, report)
    sources = [source for source in kernel["dataset_sources"] if not (source + "/").startswith(dataset["id"] + "/")]
    write_json(out / KERNEL / KERNEL_JSON, {**kernel, "dataset_sources": [f"{dataset['id']}/{version}", *sources]})
    sent = Sent(_start(client, out / KERNEL, kernel["id"], competition), kernel["id"])
    report(f"  notebook {sent.kernel}, version {sent.kernel_version}, runs at https://www.kaggle.com/code/{sent.kernel}")
    wait_complete(client, sent.kernel, sleep, report)
    report("  complete; " + _next(sent, competition))
    return sent


def _next(sent: Sent, competition: str) -> str:
    if "/" in competition:
        return f"get its answer with: kaggle kernels output {sent.kernel}"
    return (f"submit it with: kaggle competitions submit {competition} -k {sent.kernel} -v {sent.kernel_version} "
            "-f submission.csv -m MESSAGE")


def _same_user(client: Any, ref: str) -> None:
    user, owner = (getattr(client, "config_values", None) or {}).get("username"), ref.partition("/")[0]
    if user and user.lower() != owner:
        raise UserError(f"the kernel was written for the user {owner}, and the credentials are of {user}; use those of "
                        f"{owner}, or write it with --kaggle {user.lower()}")


def send_dataset(client: Any, folder: Path, ref: str, sleep: Sleep, report: Report) -> int:
    """Bring ``folder`` to the data set ``ref``, ``owner/slug``; returns the number of a version that holds all its files."""
    before = settled(client, ref, sleep, report)
    if before and not lost_files(client, ref, before, folder):
        report(f"  data set {ref}, version {before}, has these files already")
        return before
    report(f"  sending {len(list(folder.iterdir())) - 1:,} files to the data set {ref}")
    with talking(ref, 403, f"a version is refused until the one before it is ready: wait until {_page(ref)} says so"):
        if before is None:
            answer = client.dataset_create_new(str(folder), public=False, quiet=True, convert_to_csv=False)
        else:
            answer = client.dataset_create_version(str(folder), "radstack", quiet=True, convert_to_csv=False)
    _accepted(answer, ref)
    version = new_version(client, ref, before or 0, sleep, report)
    if lost := lost_files(client, ref, version, folder):
        raise UserError(f"{len(lost)} files did not reach {ref}, version {version}, or not whole (first: {lost[0]}), "
                        f"although Kaggle reported success; {AGAIN}: it sends a new version")
    return version


def _page(ref: str) -> str:
    return f"https://www.kaggle.com/datasets/{ref}"


def _accepted(answer: Any, ref: str) -> None:
    if str(getattr(answer, "status", "")).lower() != "ok":
        why = " ".join(str(getattr(answer, "error", "") or "no reason given").split())
        raise UserError(f"Kaggle did not take the data set {ref} ({why}); mend that, or choose another name, and {AGAIN}")


def settled(client: Any, ref: str, sleep: Sleep, report: Report) -> int | None:
    """The current version of ``ref``, None where there is no such data set; waits while an earlier version is on its way."""
    status = dataset_status(client, ref)
    if status in ("", DELETED):
        return None
    if status not in (READY, FAILED):
        return new_version(client, ref, 0, sleep, report)
    return _version(client, ref) or 0


def dataset_status(client: Any, ref: str) -> str:
    """``ready``, ``failed``, ``deleted`` or a step on the way, as the client says; "" where Kaggle shows no such set."""
    import requests

    try:
        with talking(ref):
            return str(client.dataset_status(ref)).lower()
    except UserError as error:
        cause = error.__cause__
        if isinstance(cause, requests.HTTPError) and cause.response is not None and cause.response.status_code in NOT_THERE:
            return ""
        raise


def _version(client: Any, ref: str) -> int:
    """The number of the current version; 0 where there is none yet."""
    import requests

    try:
        with talking(ref):
            return int(json.loads(client.dataset_status(ref, format="json"))["current_version_number"] or 0)
    except TypeError as error:
        raise UserError("the kaggle package is too old; type: pip install --upgrade 'kaggle>=2.2.4'") from error
    except UserError as error:
        if isinstance(error.__cause__, requests.HTTPError):
            return 0
        raise


def new_version(client: Any, ref: str, before: int, sleep: Sleep, report: Report) -> int:
    """Wait until ``ref`` is ready with a later version than ``before``; returns its number."""
    seen = [""]

    def look() -> int | None:
        status = dataset_status(client, ref)
        if status == FAILED:
            raise UserError(f"Kaggle could not unpack the data set {ref}; look at {_page(ref)}, delete it there if it has "
                            f"no version, and {AGAIN}")
        if status and status != seen[-1]:
            report(f"  data set {ref}: {status}")
        seen.append(status or seen[-1])
        version = _version(client, ref) if status == READY else 0
        return version if version > before else None

    if (version := _patiently(look, DATASET_WAIT, DATASET_LOOKS, sleep)) is not None:
        return version
    says = seen[-1] or "nothing"
    raise UserError(f"the data set {ref} has no new version after {DATASET_WAIT * DATASET_LOOKS / 60:.0f} minutes (Kaggle "
                    f"says {says}); wait until {_page(ref)} shows one, and {AGAIN}: what has arrived is not sent again")


def _patiently(look: Callable[[], T | None], seconds: float, looks: int, sleep: Sleep) -> T | None:
    """What ``look`` finds; it is asked ``looks`` times, ``seconds`` apart. None where it finds nothing."""
    for _ in range(looks):
        if (found := look()) is not None:
            return found
        sleep(seconds)
    return None


def lost_files(client: Any, ref: str, version: int, folder: Path) -> list[str]:
    """Files of ``folder`` that version ``version`` of ``ref`` lacks or has in another size.

    Equal sizes suffice, since the layout's name holds a hash of the whole content.
    """
    has = dict(_server_files(client, f"{ref}/{version}"))
    wanted = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != DATASET_JSON}
    return [name for name, size in wanted.items() if has.get(name) != size]


def _server_files(client: Any, ref: str) -> Iterator[tuple[str, int]]:
    """Name and bytes of the files that Kaggle has of ``ref``, page by page."""
    token = None
    while True:
        with talking(ref):
            answer = client.dataset_list_files(ref, page_token=token, page_size=PAGE)
        if answer.error_message:
            raise UserError(f"Kaggle does not list the files of {ref} ({answer.error_message}); {AGAIN}")
        yield from ((file.name, file.total_bytes) for file in answer.files or [])
        token = answer.next_page_token
        if not token:
            return


def _start(client: Any, folder: Path, ref: str, competition: str) -> int:
    """Push the notebook; returns its version. An answer that drops a source is an error, although the push went through."""
    with talking(ref, 403, f"accept the rules of {competition}, and verify your telephone number at "
                           "https://www.kaggle.com/settings, without which there is no GPU"):
        answer = client.kernels_push(str(folder))
    if answer.error:
        raise UserError(f"Kaggle did not take the notebook {ref} ({' '.join(answer.error.split())}); mend that and {AGAIN}")
    advice = {"dataset": "see that it is ready and yours", "competition": "accept its rules at its page",
              "kernel": "see its name", "model": "see its name"}
    for kind, what in advice.items():
        if dropped := list(getattr(answer, f"invalid_{kind}_sources", None) or []):
            raise UserError(f"Kaggle took the notebook {ref} without the {kind} {', '.join(dropped)}; {what}, and {AGAIN}")
    if answer.ref and answer.ref.rpartition("/")[2] != ref.rpartition("/")[2]:
        raise UserError(f"Kaggle calls the notebook {answer.ref}, not {ref}; delete it there, choose another name, "
                        f"and {AGAIN}")
    return int(answer.version_number)


def wait_complete(client: Any, ref: str, sleep: Sleep, report: Report) -> None:
    """Wait until the notebook ``ref``, ``user/slug``, has run to its end; UserError where it fails."""
    seen = [""]

    def look() -> bool | None:
        with talking(ref):
            answer = client.kernels_status(ref)
        status = str(getattr(answer.status, "name", answer.status)).lower()
        if status != seen[-1]:
            report(f"  notebook {ref}: {status}")
        seen.append(status)
        if status.startswith(("error", "cancel")):
            why = " ".join(str(answer.failure_message or "no reason given").split())
            raise UserError(f"the notebook {ref} ended with {status} ({why}); read its log at https://www.kaggle.com/code/{ref}")
        return True if status == "complete" else None

    sleep(KERNEL_WAIT)  # at once, Kaggle may still tell of the version before
    if _patiently(look, KERNEL_WAIT, KERNEL_LOOKS, sleep) is None:
        raise UserError(f"the notebook {ref} is not complete after {KERNEL_WAIT * KERNEL_LOOKS / 3600:.0f} hours "
                        f"({seen[-1]}); look at https://www.kaggle.com/code/{ref}")


@contextlib.contextmanager
def talking(ref: str, status: int = 0, advice: str = "") -> Iterator[None]:
    """Silence the client's prints and turn what it raises into a one-line UserError; ``advice`` is for HTTP ``status``."""
    import requests

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        text = " ".join(str(error).split())
        what = {401: "make a new token at https://www.kaggle.com/settings/api", 429: "wait some minutes"}
        todo = advice if code == status else what.get(code, "wait a while")
        raise UserError(f"Kaggle refuses {ref} (status {code}: {text}); {todo}, then {AGAIN}") from error
    except requests.RequestException as error:
        raise UserError(f"cannot reach Kaggle, or the connection broke ({type(error).__name__}); {AGAIN} when the network "
                        "is back: what has arrived is not sent again") from error
    except ValueError as error:
        text = " ".join(str(error).split())
        raise UserError(f"the kaggle package refuses {ref} ({text}); mend that and {AGAIN}") from error
