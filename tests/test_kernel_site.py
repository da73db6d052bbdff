"""A bundle sent by the real kaggle package to a small Kaggle on 127.0.0.1: what it asks and how its answers are read."""

import ast
import json
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from kagglesdk import kaggle_env
from test_kaggle import Kaggle

from radstack.core.errors import UserError
from radstack.submission import send
from radstack.submission.kaggle import connect
from radstack.submission.kernel import Asked, write_kernel

REF = "me/radstack-ich"


class Site(Kaggle):
    """Keeps one data set and one notebook."""

    def do_POST(self):
        site, call = self.server.site, self.path.rpartition("/")[2]
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        site.calls.append(call)
        there = call in ("GetDatasetStatus", "GetDataset") and not site.versions
        if there or (call in site.refuse):
            code = site.refuse.get(call, 404)
            self.say(code, code=code, message="No such thing")
        else:
            try:
                body, code = getattr(self, call)(site, asked), 200
            except Exception as error:  # a connection that breaks off would be tried again for minutes
                body, code = {"code": 400, "message": f"the fake cannot answer {call} of {asked}: {error!r}"}, 400
            self.answer(code, json.dumps(body).encode(), Content_Type="application/json")

    def do_PUT(self):
        body, site = self.rfile.read(int(self.headers["Content-Length"])), self.server.site
        name = self.path.rpartition("/")[2]
        if name in site.lose:
            self.answer(400, b"{}")
        else:
            site.blobs[name] = len(body)
            self.answer(200, b"{}")

    def StartBlobUpload(self, site, asked):
        return {"token": asked["name"], "createUrl": f"{site.url}/upload/{asked['name']}"}

    def CreateDataset(self, site, asked):
        site.made = asked
        files = asked.get("files") or asked["body"]["files"]
        site.versions.append({one["token"]: site.blobs[one["token"]] for one in files})
        return {"status": "ok", "url": "x", "ref": "x"}

    CreateDatasetVersion = CreateDataset

    def GetDatasetStatus(self, site, asked):
        return {"status": site.status.pop(0) if len(site.status) > 1 else site.status[0]}

    def GetDataset(self, site, asked):
        return {"currentVersionNumber": len(site.versions), "ref": "x"}

    def ListDatasetFiles(self, site, asked):
        files = site.versions[int(asked["datasetVersionNumber"]) - 1]
        return {"datasetFiles": [{"name": name, "totalBytes": size} for name, size in files.items()]}

    def SaveKernel(self, site, asked):
        site.kernel = asked
        return {"ref": f"/code/{asked['slug']}", "versionNumber": 7, **site.dropped}

    def GetKernelSessionStatus(self, site, asked):
        return {"status": "COMPLETE"}


@pytest.fixture
def site(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.site = SimpleNamespace(calls=[], versions=[], blobs={}, refuse={}, lose=(), dropped={}, made=None, kernel=None,
                                  status=["BLOBS_RECEIVED", "READY"], url=f"http://127.0.0.1:{server.server_port}")
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.site.url)
    for name, value in {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "k", "NO_PROXY": "127.0.0.1",
                        "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    yield server.site
    server.shutdown()


@pytest.fixture
def out(tmp_path):
    for name in ("manifest.json", "predict.py", "src/a/__init__.py"):
        (tmp_path / "ich" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ich" / name).write_text("{}")
    write_kernel(tmp_path / "ich", tmp_path / "out", "me", "radstack-ich", Asked("head-ct", "sample.csv"))
    return tmp_path / "out"


def push(out):
    return send.push(connect(), out, competition="head-ct", sleep=lambda seconds: None, report=lambda line: None)


def test_the_package_sends_all_and_again_nothing(site, out, capfd):
    assert push(out) == send.Sent(7, REF)
    assert site.made["slug"] == "radstack-ich-bundle" and site.made["isPrivate"] is True
    names = {path.name for path in (out / "dataset").iterdir()} - {"dataset-metadata.json"}
    assert set(site.versions[0]) == names and "manifest.json" in names
    kernel = site.kernel
    assert (kernel["enableInternet"], kernel["isPrivate"], kernel["enableGpu"]) == (False, True, True)
    assert kernel["machineShape"] == "NvidiaTeslaT4" and kernel["datasetDataSources"] == [f"{REF}-bundle/1"]
    assert json.loads(kernel["text"])["metadata"]["kernelspec"]["name"] == "python3" and kernel["newTitle"] == "radstack ich"
    site.calls.clear()
    push(out)
    assert site.kernel["datasetDataSources"] == [f"{REF}-bundle/1"] and "StartBlobUpload" not in site.calls
    assert capfd.readouterr().out == ""


def test_columns_and_deadline_arrive_in_the_notebook(site, out):
    asked = Asked("head-ct", "sample.csv", columns="sexes.csv", hours=8.5)
    write_kernel(out.with_name("ich"), out, "me", "radstack-ich", asked)
    push(out)
    cells = json.loads(site.kernel["text"])["cells"]
    settings = json.loads(ast.literal_eval(cells[-1]["source"].partition("json.loads(")[2].partition(")\nmain")[0]))
    assert settings["columns"] == "sexes.csv"
    assert settings["arguments"] == ["--columns", "{columns}", "--hours", "8.5"]


def test_a_file_that_the_package_loses_is_found_out_and_sent_by_the_next_call(site, out):
    site.lose = ("predict.py",)
    with pytest.raises(UserError, match=r"1 files did not reach .*first: predict\.py.*run the same command again"):
        push(out)
    assert "predict.py" not in site.versions[0] and "SaveKernel" not in site.calls
    site.lose = ()
    push(out)
    assert site.kernel["datasetDataSources"] == [f"{REF}-bundle/2"]


@pytest.mark.parametrize(("refuse", "dropped", "said"), [
    ({"SaveKernel": 403}, {}, "status 403.*accept the rules of head-ct"),
    ({"GetDatasetStatus": 401}, {}, "status 401.*new token"),
    ({}, {"invalidDatasetSources": [f"{REF}-bundle/1"]}, "without the dataset me/radstack-ich-bundle/1"),
    ({}, {"invalidCompetitionSources": ["head-ct"]}, "without the competition head-ct; accept its rules"),
    ({}, {"error": "no quota"}, "did not take the notebook .*no quota")])
def test_what_the_server_refuses(site, out, refuse, dropped, said):
    site.refuse, site.dropped = refuse, dropped
    with pytest.raises(UserError, match=said) as error:
        push(out)
    assert "\n" not in str(error.value) and "run the same command again" in str(error.value)


def test_a_version_before_the_first_is_ready(site, out):
    site.versions, site.status, site.refuse = [{}], ["READY"], {"CreateDatasetVersion": 403}
    with pytest.raises(UserError, match="status 403.*wait until .*datasets/me/radstack-ich-bundle"):
        push(out)


def test_a_network_that_is_gone(site, out, monkeypatch):
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"cannot reach Kaggle.*run the same command again"):
        push(out)


def test_nothing_of_a_push_is_left_in_the_folders(site, out):
    before = {path.name for path in Path(out).rglob("*")}
    push(out)
    assert {path.name for path in Path(out).rglob("*")} == before
