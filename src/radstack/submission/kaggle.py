"""Download data, push a submission and ask what became of it, through the official ``kaggle`` package.

The package resumes a download by itself: it keeps the partial file with a marker of the server's ETag, asks for the
rest by HTTP range, and checks the final size. Here it writes below ``<folder>/.download/`` only; what reaches a final
name is whole.
"""

import contextlib
import errno
import io
import json
import os
import shutil
import threading
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from radstack.core.errors import Missing, UserError
from radstack.core.files import DOWNLOADS, PIECE, need_disk, read_json, replacing, sweep, write_json
from radstack.core.progress import Track, track
from radstack.core.say import Report

RECORD = ".downloaded.json"
"""File, in the data folder, that lists what is complete; without it the archive would be fetched again."""
EVERYTHING = "all files"  # Name in the record of the archive that holds the whole competition
MARKER_SUFFIX = ".kaggle-partial"
"""Of the file by which the kaggle package knows a partial download; it holds the whole one's size."""
WATCH_SECONDS = 1.0  # Time between two looks at a download
UNZIP_THREADS = 4  # zlib and file writes run outside Python's lock
MB = 1_000_000
PAGE, PAGES = 100, 50  # Submissions asked for at a time, and how many times at most
HOW_TO_SIGN_IN = ("make a token at https://www.kaggle.com/settings/api, then save it as ~/.kaggle/kaggle.json or set "
                  "KAGGLE_USERNAME and KAGGLE_KEY (a newer token: KAGGLE_API_TOKEN)")


def download(competition: str, folder: Path, files: list[str] | None = None, *, report: Report,
             needed_bytes: int = 0) -> None:
    """Bring the data of ``competition`` into ``folder``, unpacked, as the organizer laid it out.

    Interrupted anywhere, the same call goes on where it stopped; a finished one returns at once. A top folder of the
    archive named like the competition is left out. ``competition`` is as in its address, e.g.
    ``rsna-intracranial-hemorrhage-detection``, or a data set, ``owner/name``. ``files`` names single files, None the whole
    archive. ``needed_bytes`` is the largest size of ``folder`` on the way, archive and unpacked files together.

    Raises:
        UserError: no credentials, rules not accepted, no network, not enough disk, a damaged archive.
    """
    record = read_json(folder / RECORD) if (folder / RECORD).exists() else []
    for name in record:  # what a run left that was killed when it had just written this
        shutil.rmtree(_place(folder, name), ignore_errors=True)
    missing = [name for name in files or [EVERYTHING] if name not in record]
    if not missing:
        report(f"{folder} is complete; to fetch it again delete {folder / RECORD}")
        return
    need_disk(folder, needed_bytes - _size(folder) if needed_bytes else 0, f"the data of {competition}")
    client = connect()
    for name in missing:
        archive = _fetch(client, competition, name, _place(folder, name), report)
        into = folder if name == EVERYTHING else (folder / name).parent
        if archive.suffix == ".zip" or wraps(archive, name):
            unzip(archive, into, top=competition.rpartition("/")[2], report=report)
        else:
            into.mkdir(parents=True, exist_ok=True)
            archive.replace(into / Path(name).name)
        record.append(name)
        write_json(folder / RECORD, record)
        shutil.rmtree(archive.parent)


def _place(folder: Path, name: str) -> Path:
    """Where the archive ``name`` lies until it is unpacked."""
    return folder / DOWNLOADS / name.replace("/", "_")


@dataclass(frozen=True)
class Answer:
    """What Kaggle says of a file that it took."""

    words: str
    ref: int
    """Number of the submission; 0 where Kaggle gave none."""


@dataclass(frozen=True)
class Submission:
    """One submission as Kaggle lists it."""

    ref: int
    """Its number."""
    time: datetime
    """When it arrived, UTC without a time zone."""
    file: str
    """Name of the file, without folders."""
    message: str
    status: str
    """``pending``, ``complete`` or ``error``."""
    public: str
    """Score on the public leaderboard as Kaggle writes it; "" where there is none yet."""
    private: str
    """Score on the private one, likewise; Kaggle shows it once the competition is over."""
    error: str = ""
    """Why it has no score."""


def push(path: Path, competition: str, message: str) -> Answer:
    """Submit the file ``path`` with ``message``; returns Kaggle's answer.

    UserError: no such file, no credentials, rules not accepted, no network, or Kaggle did not take the file.
    """
    if not path.is_file():
        raise Missing(path)
    need_leaderboard(competition)
    client = connect()
    said = io.StringIO()
    with explained(competition), contextlib.redirect_stdout(said):
        answer = client.competition_submit(str(path), message, competition, quiet=True)
    if answer.message == client.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE:
        reason = " ".join(said.getvalue().split()) or "the upload broke off"
        raise UserError(f"Kaggle did not take {path} ({reason}); run the same command again")
    return Answer(str(answer.message), int(answer.ref or 0))


def may_have_arrived(error: UserError) -> bool:
    """Whether the connection broke in :func:`push`, so that Kaggle may have taken the file all the same."""
    import requests

    cause = error.__cause__
    return isinstance(cause, requests.RequestException) and not isinstance(cause, requests.HTTPError)


def submissions(competition: str) -> list[Submission]:
    """All submissions of the account's team to ``competition``, newest first, from the client's return values.

    UserError: the competition takes no submissions, no credentials, rules not accepted, no network.
    """
    need_leaderboard(competition)
    client, found = connect(), dict[int, Submission]()
    with explained(competition):
        for page in range(1, PAGES + 1):
            listed = client.competition_submissions(competition, page_number=page, page_size=PAGE) or []
            fresh = [one for one in listed if one is not None and one.ref not in found]
            if not fresh:  # a page beyond the last one is empty, or the last one again
                break
            found |= {one.ref: _submission(one) for one in fresh}
    return list(found.values())


def need_leaderboard(competition: str) -> None:
    """Raise a UserError where ``competition`` is a data set at Kaggle, or nothing there."""
    if not competition:
        raise UserError("this competition has no name at Kaggle; write it into kaggle of its Data (recipes/competition.py)")
    if "/" in competition:
        raise UserError(f"{competition} is a data set at Kaggle, which takes no submissions; your files stay where they are")


def _submission(one: Any) -> Submission:
    """What matters of the client's ``ApiSubmission``; its fields may be None."""
    return Submission(int(one.ref), one.date, one.file_name or "", one.description or "", one.status.name.lower(),
                      one.public_score or "", one.private_score or "", " ".join((one.error_description or "").split()))


def connect() -> Any:
    """An authenticated ``KaggleApi``; UserError where the package or the credentials are missing, or Kaggle refuses them."""
    import requests

    silence = io.StringIO()  # without credentials the package prints a page of help and calls exit()
    with explained(""), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        try:
            from kaggle.api.kaggle_api_extended import KaggleApi
            client = KaggleApi()
            client.authenticate()
        except ImportError as error:
            raise UserError("the kaggle package is missing; type: pip install kaggle") from error
        except SystemExit as error:
            _check_credentials()
            raise UserError(f"no Kaggle credentials; {HOW_TO_SIGN_IN}") from error
        except requests.RequestException:
            raise
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the Kaggle credentials ({error}); {HOW_TO_SIGN_IN}") from error
    return client


def _check_credentials() -> None:
    """A file of credentials that is there and broken is not the same as none."""
    home = Path.home()
    for folder in (Path(os.environ.get("KAGGLE_CONFIG_DIR") or home / ".kaggle"), home / ".config" / "kaggle"):
        file = folder / "kaggle.json"
        if not file.exists():
            continue
        try:
            keys = json.loads(file.read_text(encoding="utf-8"))
            whole = isinstance(keys, dict) and {"username", "key"} <= set(keys)
        except (OSError, ValueError):
            whole = False
        if not whole:
            raise UserError(f"{file} cannot be read as a token with username and key; {HOW_TO_SIGN_IN}")


@contextlib.contextmanager
def explained(competition: str) -> Iterator[None]:
    """Turn what the kaggle package raises into a one-line UserError that says what to do."""
    import requests

    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise UserError(_advice(status, competition, " ".join(str(error).split()))) from error
    except requests.RequestException as error:
        raise UserError("cannot reach Kaggle, or the connection broke; what was downloaded is kept: run the same "
                        f"command again when the network is back ({type(error).__name__})") from error
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        raise UserError(f"cannot write the download: {reason}; what is there is kept: mend it and run the same command "
                        "again") from error
    except ValueError as error:
        raise UserError(f"the download is not whole ({error}); run the same command again") from error


def _fetch(client: Any, competition: str, name: str, place: Path, report: Report) -> Path:
    """Download one file, or everything, into ``place`` (which then holds nothing else) and return its path."""
    place.mkdir(parents=True, exist_ok=True)
    with explained(competition), _watched(place, f"download {competition}, {name}", report):
        if "/" in competition:
            client.dataset_download_files(competition, path=str(place), quiet=True)
        elif name == EVERYTHING:
            client.competition_download_files(competition, path=str(place), quiet=True)
        else:
            client.competition_download_file(competition, name, path=str(place), quiet=True)
    return next(path for path in place.iterdir() if path.suffix != MARKER_SUFFIX)


@contextlib.contextmanager
def _watched(place: Path, what: str, report: Report) -> Iterator[None]:
    """Report how much lies in ``place``, and how long the rest will take where its size is known."""
    over = threading.Event()
    with track(None, f"{what}, MB", done=_size(place) // MB, report=report) as steps:

        def watch() -> None:
            while not over.wait(WATCH_SECONDS):
                steps.total = steps.total or _expected(place)
                steps.step(_size(place) // MB - steps.done)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            steps.step(_size(place) // MB - steps.done)


def _expected(place: Path) -> int | None:
    """MB that the download into ``place`` will have; None where the kaggle package has not noted it."""
    for marker in place.glob(f"*{MARKER_SUFFIX}"):
        with contextlib.suppress(UserError, KeyError, TypeError):  # it is written and deleted meanwhile
            return read_json(marker)["size"] // MB
    return None


def _size(folder: Path) -> int:
    """Bytes of all files below ``folder``; 0 when it does not exist."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # the download renames and deletes meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def _advice(status: int, competition: str, text: str) -> str:
    page = f"https://www.kaggle.com/{'datasets' if '/' in competition else 'competitions'}/{competition}"
    advice = {401: f"Kaggle refuses the credentials; {HOW_TO_SIGN_IN}",
              403: f"Kaggle forbids it; accept the rules at {page}/rules with the account of your token",
              404: f"Kaggle does not know it; compare the name with {page}/data",
              429: "Kaggle asks for a pause; run the same command again in some minutes"}
    return f"{advice.get(status, 'Kaggle failed; run the same command again later')} (status {status}: {text})"


def unzip(archive: Path, folder: Path, *, report: Report, top: str = "") -> None:
    """Unpack ``archive``, a zip file, into ``folder``; members that are there with the same bytes are kept as they are.

    Each member's CRC is checked, also of what is there: an archive may be released again with other files of equal sizes.
    ``top`` is a first folder of the member names to leave out; ``report`` takes lines.

    Raises:
        UserError: the archive is damaged, a member would land outside ``folder``, or the disk is too small.
    """
    try:
        with zipfile.ZipFile(archive) as bundle:
            targets = {_target(folder, member.filename, top): member for member in bundle.infolist()
                       if not member.is_dir()}
            left = [(member, path) for path, member in targets.items()
                    if not _is_there(path, member)]
            for parent in {path.parent for _, path in left}:
                sweep(parent)
            need_disk(folder, sum(member.file_size for member, _ in left), f"unpacking {archive}")
            with track(len(targets), f"unpack {archive.name}", done=len(targets) - len(left), report=report) as steps:
                _extract_all(bundle, left, steps)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{archive} is damaged ({error}); delete it and run the same command again") from error


def _is_there(path: Path, member: zipfile.ZipInfo) -> bool:
    if not path.is_file() or path.stat().st_size != member.file_size:
        return False
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            crc = zlib.crc32(piece, crc)
    return crc == member.CRC


def wraps(archive: Path, name: str) -> bool:
    """Whether ``archive`` is a zip of just the file ``name``; Kaggle packs single files, at times without saying so."""
    if not zipfile.is_zipfile(archive):
        return False
    with zipfile.ZipFile(archive) as bundle:
        return bundle.namelist() == [Path(name).name]


def _extract_all(bundle: zipfile.ZipFile, left: list[tuple[zipfile.ZipInfo, Path]], steps: Track) -> None:
    counting = threading.Lock()

    def extract(share: list[tuple[zipfile.ZipInfo, Path]]) -> None:
        for member, path in share:
            with bundle.open(member) as source, replacing(path) as part, part.open("wb") as target:
                shutil.copyfileobj(source, target, length=1 << 20)
            with counting:
                steps.step()

    with ThreadPoolExecutor(UNZIP_THREADS) as pool:
        list(pool.map(extract, [left[first::UNZIP_THREADS] for first in range(UNZIP_THREADS)]))


def _target(folder: Path, member: str, top: str) -> Path:
    parts = Path(member).parts
    if ".." in parts or Path(member).is_absolute():
        raise UserError(f"the archive holds {member!r}, which lies outside it; it is not the organizer's: delete it")
    return folder.joinpath(*(parts[1:] if top and parts[0] == top else parts))
