"""The real kaggle package against a small Kaggle on 127.0.0.1."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import zipfile
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from kagglesdk import kaggle_env

from radstack.core.errors import UserError
from radstack.submission import kaggle as kaggle_client

COMPETITION = "head-ct"
SRC = Path(__file__).parents[1] / "src"
BYTES = random.Random(0).randbytes(3_000_000)


def archive_of(members):
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return blob.getvalue()


class Kaggle(BaseHTTPRequestHandler):
    """Redirects the two download calls to ``/files``, which knows ranges; takes a submission in three calls."""

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def say(self, status, **body):
        self.answer(status, json.dumps(body).encode(), Content_Type="application/json")

    def do_POST(self):
        site, call = self.server.site, self.path.rpartition("/")[2]
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        site.calls.append(call)
        if site.refuse:
            self.say(site.refuse[0], code=site.refuse[0], message=site.refuse[1])
        elif call == "DownloadDataFiles":
            self.answer(302, Location=f"/files/{COMPETITION}.zip")
        elif call == "DownloadDataset":
            self.answer(302, Location="/files/hands.zip")
        elif call == "DownloadDataFile":
            self.answer(302, Location=f"/files/{asked['fileName']}{site.extra_suffix}")
        elif call == "StartSubmissionUpload":
            self.say(200, token="blob", createUrl=f"{site.url}/upload")
        elif call == "CreateSubmission":
            site.submitted = asked
            self.say(200, message="Successfully submitted to Head CT", **site.numbered)
        elif call == "ListSubmissions":
            self.say(200, submissions=site.listed[2 * asked["page"] - 2: 2 * asked["page"]])

    def do_PUT(self):
        site = self.server.site
        site.uploaded = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(site.upload_status, b"{}")

    def do_GET(self):
        site = self.server.site
        body, span = site.files[self.path.rpartition("/")[2]], self.headers.get("Range")
        first = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        site.ranges.append(first)
        self.send_response(206 if span else 200)
        for name, value in {"Content-Length": len(body) - first, "Accept-Ranges": "bytes", "ETag": '"one"',
                            "Last-Modified": "Wed, 01 Jan 2020 00:00:00 GMT"}.items():
            self.send_header(name, str(value))
        self.end_headers()
        try:
            for at in range(first, len(body), 100_000):
                self.wfile.write(body[at: at + 100_000])
        except (BrokenPipeError, ConnectionResetError):
            pass


@pytest.fixture
def site(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Kaggle)
    server.site = SimpleNamespace(files={}, ranges=[], calls=[], refuse=None, extra_suffix="", listed=[], numbered={},
                                  upload_status=200, url=f"http://127.0.0.1:{server.server_port}")
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.site.url)
    for name, value in {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "k",
                        "NO_PROXY": "127.0.0.1", "HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    yield server.site
    server.shutdown()


def files_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != kaggle_client.RECORD}


@pytest.mark.parametrize("layout", ["train/{}", "train_images/{}", COMPETITION + "/train/{}"])
def test_both_layouts_land_in_place_and_a_second_call_asks_nothing(site, tmp_path, layout):
    inside = {layout.format("a.dcm"): BYTES[:99], layout.format("b.dcm"): BYTES[99:300], "train.csv": b"ID,Label\n"}
    site.files[f"{COMPETITION}.zip"] = archive_of(inside)
    kaggle_client.download(COMPETITION, tmp_path / "input", report=lambda _: None)
    expected = {name.removeprefix(f"{COMPETITION}/"): content for name, content in inside.items()}
    assert files_below(tmp_path / "input") == expected
    asked, lines = len(site.calls), []
    left = tmp_path / "input/.download/all files/left.zip"  # by a run that was killed when it had recorded what is complete
    left.parent.mkdir()
    left.write_bytes(BYTES)
    kaggle_client.download(COMPETITION, tmp_path / "input", report=lines.append)
    assert files_below(tmp_path / "input") == expected
    assert len(site.calls) == asked and "complete" in lines[0]


def test_a_data_set_comes_whole_and_takes_no_submission(site, tmp_path):
    site.files["hands.zip"] = archive_of({"pictures/pictures/1.png": BYTES[:99], "labels.csv": b"id\n"})
    kaggle_client.download("owner/hands", tmp_path / "input", report=lambda _: None)
    assert files_below(tmp_path / "input") == {"pictures/pictures/1.png": BYTES[:99], "labels.csv": b"id\n"}
    (tmp_path / "mine.csv").write_text("id\n")
    with pytest.raises(UserError, match="takes no submissions"):
        kaggle_client.push(tmp_path / "mine.csv", "owner/hands", "first")


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_single_file_plain_or_zipped(site, tmp_path, suffix):
    site.extra_suffix = suffix
    site.files = {"train.csv": archive_of({"train.csv": b"ID\n"}), "train.csv.zip": archive_of({"train.csv": b"ID\n"}),
                  "notes.txt": b"hello", "notes.txt.zip": archive_of({"notes.txt": b"hello"})}
    kaggle_client.download(COMPETITION, tmp_path, ["train.csv", "notes.txt"], report=lambda _: None)
    assert files_below(tmp_path) == {"train.csv": b"ID\n", "notes.txt": b"hello"}


def test_killed_download_resumes_by_range(site, tmp_path):
    site.files[f"{COMPETITION}.zip"] = archive_of({"train/a.dcm": BYTES})
    script = ("import os, signal; from pathlib import Path; from kagglesdk import kaggle_env as env\n"
              f"env._env_to_endpoint[env.KaggleEnv.PROD] = {site.url!r}\n"
              "from kaggle.api import kaggle_api_extended as package\n"  # its bar is told of each piece that is on disk
              "package.tqdm.update = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
              "from radstack.submission.kaggle import download\n"
              f"download({COMPETITION!r}, Path({str(tmp_path / 'input')!r}), report=lambda _: None)")
    child = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(SRC)})
    held = (tmp_path / "input/.download/all files" / f"{COMPETITION}.zip").stat().st_size
    assert child.returncode == -signal.SIGKILL and 1_000_000 < held < 3_000_000
    assert list((tmp_path / "input").iterdir()) == [tmp_path / "input/.download"]
    site.ranges.clear()
    kaggle_client.download(COMPETITION, tmp_path / "input", report=lambda _: None)
    assert site.ranges[-1] == held
    assert files_below(tmp_path / "input") == {"train/a.dcm": BYTES}


def test_unzip_keeps_whole_members_and_redoes_short_and_older_ones(tmp_path):
    (tmp_path / "x.zip").write_bytes(archive_of({"a": b"aaaa", "b": b"bbbb", "c": b"cccc", "d": b"dddd"}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_bytes(b"aaaa")
    os.utime(tmp_path / "out/a", ns=(1, 1))
    (tmp_path / "out/b").write_bytes(b"bb")
    (tmp_path / "out/d").write_bytes(b"last")  # of an archive that had this name before
    (tmp_path / "out/.c.99999999.part").write_bytes(b"c")  # of an unpacking that was killed: no process has this number
    kaggle_client.unzip(tmp_path / "x.zip", tmp_path / "out", report=lambda _: None)
    assert files_below(tmp_path / "out") == {"a": b"aaaa", "b": b"bbbb", "c": b"cccc", "d": b"dddd"}
    assert (tmp_path / "out/a").stat().st_mtime_ns == 1 < (tmp_path / "out/d").stat().st_mtime_ns


def test_damaged_or_hostile_archives_leave_nothing(tmp_path):
    broken = bytearray(archive_of({"a": b"a" * 5000}))
    broken[3000] ^= 1
    (tmp_path / "x.zip").write_bytes(broken)
    with pytest.raises(UserError, match=r"x\.zip is damaged .*delete it"):
        kaggle_client.unzip(tmp_path / "x.zip", tmp_path / "out", report=lambda _: None)
    assert files_below(tmp_path / "out") == {}
    (tmp_path / "y.zip").write_bytes(archive_of({"../evil": b"x"}))
    with pytest.raises(UserError, match="lies outside"):
        kaggle_client.unzip(tmp_path / "y.zip", tmp_path / "out", report=lambda _: None)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("status, text, expected", [
    (401, "Unauthenticated", "refuses the credentials; make a token"),
    (403, "You must accept this competition's rules", f"competitions/{COMPETITION}/rules"),
    (404, "Not Found", "compare the name"), (500, "oops", "again later")])
def test_refusals_say_what_to_do(site, tmp_path, status, text, expected):
    site.refuse = (status, text)
    with pytest.raises(UserError, match=expected) as caught:
        kaggle_client.download(COMPETITION, tmp_path, report=lambda _: None)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_no_credentials_is_one_line_and_no_exit(site, monkeypatch, tmp_path, capfd):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    from kaggle.api.kaggle_api_extended import KaggleApi
    monkeypatch.setattr(KaggleApi, "config", str(tmp_path / "nothing.json"))
    capfd.readouterr()
    with pytest.raises(UserError, match=r"no Kaggle credentials.*kaggle\.json.*KAGGLE_USERNAME"):
        kaggle_client.download(COMPETITION, tmp_path, report=lambda _: None)
    assert capfd.readouterr() == ("", "")


def test_no_network(site, monkeypatch, tmp_path):
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"cannot reach Kaggle.*run the same command again"):
        kaggle_client.download(COMPETITION, tmp_path, report=lambda _: None)


def test_disk_is_checked_before_anything_is_asked(site, tmp_path):
    with pytest.raises(UserError, match=r"needs .* GB"):
        kaggle_client.download(COMPETITION, tmp_path, report=lambda _: None, needed_bytes=10**18)
    assert site.calls == []


def test_push(site, tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("ID,Label\n")
    assert kaggle_client.push(path, COMPETITION, "prior") == kaggle_client.Answer("Successfully submitted to Head CT", 0)
    assert site.uploaded == b"ID,Label\n"
    assert site.submitted["submissionDescription"] == "prior" and site.submitted["blobFileTokens"] == "blob"
    site.numbered = {"ref": 77}
    assert kaggle_client.push(path, COMPETITION, "prior").ref == 77
    site.upload_status = 400
    with pytest.raises(UserError, match="did not take"):
        kaggle_client.push(path, COMPETITION, "prior")
    with pytest.raises(UserError, match="is missing"):
        kaggle_client.push(tmp_path / "none.csv", COMPETITION, "prior")


def test_submissions_come_page_by_page_as_the_client_returns_them(site):
    assert kaggle_client.submissions(COMPETITION) == []
    site.listed = [
        {"ref": 3, "date": "2026-03-01T10:00:00.1234567Z", "fileName": "final.csv", "description": "third",
         "status": "PENDING"},
        {"ref": 2, "date": "2026-02-01T10:00:00Z", "fileName": "final.csv", "status": "ERROR",
         "errorDescription": "a row\n is missing"},
        {"ref": 1, "date": "2026-01-01T10:00:00Z", "fileName": "final.csv", "description": "first", "status": "COMPLETE",
         "publicScore": "0.06123", "privateScore": "0.06200"}]
    third, second, first = kaggle_client.submissions(COMPETITION)
    assert first == kaggle_client.Submission(1, datetime(2026, 1, 1, 10), "final.csv", "first", "complete", "0.06123",
                                             "0.06200")
    assert (second.status, second.message, second.error) == ("error", "", "a row is missing")
    assert (third.status, third.public, third.time.replace(microsecond=0)) == ("pending", "", datetime(2026, 3, 1, 10))
    site.refuse = (403, "You must accept this competition's rules")
    with pytest.raises(UserError, match="accept the rules"):
        kaggle_client.submissions(COMPETITION)
