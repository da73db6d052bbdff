"""A bundle on its way to Kaggle: the files, the notebook as it runs there, and a push against a Kaggle that misbehaves."""

import functools
import inspect
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import requests
from kagglesdk.datasets.types.dataset_api_service import (
    ApiCreateDatasetResponse,
    ApiDatasetFile,
    ApiListDatasetFilesResponse,
)
from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusResponse, ApiSaveKernelResponse
from kagglesdk.kernels.types.kernels_enums import KernelWorkerStatus

from radstack.core.errors import UserError
from radstack.submission import kernel as kernels
from radstack.submission import on_kaggle, send, wheels
from radstack.submission.kernel import (
    Asked,
    check,
    code_of,
    dataset_metadata,
    flat_entries,
    kernel_metadata,
    slugify,
    write_kernel,
)

COMPETITION = "head-ct"
REF, BUNDLE = "me/radstack-ich", "me/radstack-ich-bundle"
PREDICT = """
import sys, pathlib
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "src"))
import ours, tinyneed
folder, out, flag, sample = sys.argv[1:5]
assert flag == "--sample-submission" and sys.argv[5:] == ["--hours", "8.5", "--columns", sample]
weights = pathlib.Path(__file__).resolve().parent / "weights/net/fold0.safetensors"
ids = pathlib.Path(sample).read_text().split()[1:]
seen = sorted(path.name for path in pathlib.Path(folder).rglob("*.dcm"))
print("seen", seen, weights.stat().st_size, flush=True)
pathlib.Path(out).write_text("ID,Label\\n" + "".join(f"{name.split(',')[0]},{ours.P}\\n" for name in ids))
pathlib.Path(out).with_name("submission_quarantine.csv").write_text("id\\n")
"""


def one_line(error):
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    return str(error.value)


def make_wheel(folder, name, version="1.0", needs=(), tags="py3-none-any"):
    folder.mkdir(parents=True, exist_ok=True)
    stem = name.replace("-", "_")
    path, info = folder / f"{stem}-{version}-{tags}.whl", f"{stem}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"Requires-Dist: {one}\n" for one in needs)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{stem}.py", "")
        archive.writestr(f"{info}/METADATA", head)
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tags}\n")
        archive.writestr(f"{info}/RECORD", f"{stem}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


@pytest.fixture
def bundle(tmp_path):
    files = {"manifest.json": "{}", "predict.py": PREDICT, "src/ours/__init__.py": "P = 0.25\n", "src/empty.py": "",
             "src/page metadata.json": "{}", "data/a b.GZ": "a", "data/a-b.gz": "b", "apply.txt": "tinyneed==1.0\n"}
    for name, text in files.items():
        (tmp_path / "ich" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ich" / name).write_text(text)
    weights = tmp_path / "ich/weights/net/fold0.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"w" * (on_kaggle.COPIED + 1))
    return tmp_path / "ich"


@pytest.fixture
def out(bundle):
    folder = bundle.with_name("ich-kaggle")
    make_wheel(folder / "wheels", "tinyneed")
    write_kernel(bundle, folder, "me", "radstack-ich", Asked(
        COMPETITION, "sample.csv", arguments=("--hours", "8.5", "--columns", "{marker}")), wheels=folder / "wheels",
        packages=("tinyneed", "numpy"))
    return folder


@pytest.fixture
def mounted(out, tmp_path):
    inputs = tmp_path / "input"
    (inputs / "datasets/me").mkdir(parents=True)
    shutil.copytree(out / "dataset", inputs / "datasets/me/radstack-ich-bundle")
    (inputs / "datasets/other").mkdir()
    (inputs / "datasets/other/manifest.json").write_text('{"another": 1}')
    for name in ("test/p1/1.dcm", "test/2.dcm", "train/3.dcm", "sample.csv"):
        path = inputs / "competitions" / COMPETITION / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("ID,Label\na,0\nb,0\n")
    return inputs


def run_notebook(out, inputs, tmp_path, **more):
    (tmp_path / "working").mkdir(exist_ok=True)
    (tmp_path / "notebook.py").write_text(code_of(out / "kernel/notebook.ipynb"))
    site = str(tmp_path / "site")
    environment = {**os.environ, "RADSTACK_KAGGLE_INPUT": str(inputs), "RADSTACK_KAGGLE_WORKING": str(tmp_path / "working"),
                   "PIP_TARGET": site, "PYTHONPATH": site, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}
    return subprocess.run([sys.executable, tmp_path / "notebook.py"], capture_output=True, text=True, env=environment)


def test_the_notebook_finds_installs_predicts_and_writes(out, mounted, tmp_path):
    done = run_notebook(out, mounted, tmp_path, KAGGLE_IS_COMPETITION_RERUN="1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "working/submission.csv").read_text() == "ID,Label\na,0.25\nb,0.25\n"
    assert (tmp_path / "working/submission_quarantine.csv").exists()
    assert "hidden test set" in done.stdout and f"seen ['1.dcm', '2.dcm'] {on_kaggle.COPIED + 1}" in done.stdout
    assert (tmp_path / "site/tinyneed.py").exists() and "train" not in done.stdout


def test_the_notebook_hands_on_a_table_of_columns_wherever_it_lies_and_a_deadline(bundle, out, mounted, tmp_path):
    shutil.rmtree(out / "kernel")
    (bundle / "predict.py").write_text("import pathlib, sys\nprint('words', sys.argv[3:])\n"
                                       "pathlib.Path(sys.argv[2]).write_text('ID,Label\\na,1\\nb,1\\n')\n")
    write_kernel(bundle, out, "me", "radstack-ich", Asked(COMPETITION, "sample.csv", columns="sexes.csv", hours=8.5))
    shutil.rmtree(mounted / "datasets/me/radstack-ich-bundle")
    shutil.copytree(out / "dataset", mounted / "datasets/me/radstack-ich-bundle")
    failed = run_notebook(out, mounted, tmp_path)
    assert failed.returncode == 1 and "sexes.csv is not below" in failed.stderr
    table = mounted / "datasets/more/tables/sexes.csv"
    table.parent.mkdir(parents=True)
    table.write_text("id,male\n")
    done = run_notebook(out, mounted, tmp_path)
    sample = mounted / "competitions" / COMPETITION / "sample.csv"
    words = ["--sample-submission", str(sample), "--columns", str(table), "--hours", "8.5"]
    assert done.returncode == 0 and f"words {words}" in done.stdout, done.stderr


def test_a_failing_prediction_fails_the_notebook_and_leaves_no_submission(out, mounted, tmp_path):
    code = out / "kernel/notebook.ipynb"
    code.write_text(code.read_text().replace('\\"tinyneed\\", ', ""))  # so it is not installed
    done = run_notebook(out, mounted, tmp_path)
    assert done.returncode == 1 and "predict.py ended with status 1 (ModuleNotFoundError" in done.stderr
    assert not list((tmp_path / "working").iterdir())


def test_what_is_written_is_a_notebook_and_private_and_offline(out):
    nbformat.validate(nbformat.read(out / "kernel/notebook.ipynb", as_version=4))
    assert json.loads((out / "kernel/notebook.ipynb").read_text())["metadata"]["kernelspec"]["name"] == "python3"
    kernel = json.loads((out / "kernel/kernel-metadata.json").read_text())
    assert kernel["enable_internet"] is False and kernel["is_private"] is True and kernel["enable_gpu"] is True
    assert kernel["machine_shape"] == "NvidiaTeslaT4" and kernel["code_file"] == "notebook.ipynb"
    assert kernel["dataset_sources"] == [BUNDLE] and kernel["competition_sources"] == [COMPETITION]
    data = json.loads((out / "dataset/dataset-metadata.json").read_text())
    assert data["id"] == BUNDLE and data["licenses"] == [{"name": "other"}]
    whose = kernel_metadata("me", "knee-age", "knee age", "me/knee-test")
    assert whose["dataset_sources"] == ["me/knee-age-bundle", "me/knee-test"] and whose["competition_sources"] == []
    check(dataset_metadata("me", "knee-age", ("other",)), whose)


def test_the_data_set_is_flat_and_holds_nothing_that_kaggle_unpacks_or_skips(bundle, out):
    there = sorted((out / "dataset").iterdir())
    assert all(path.is_file() and path.stat().st_size for path in there)
    names = [path.name.lower() for path in there]
    assert len(set(names)) == len(names) and not any(name.endswith(kernels.ARCHIVES) for name in names)
    assert [name for name in names if "metadata.json" in name] == ["dataset-metadata.json", "src__page-metadata.json.bin"]
    paths = {entry.path for entry in flat_entries(bundle, None)}
    assert paths == {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}


def test_the_layouts_name_follows_the_content(bundle, out):
    first, = (path.name for path in (out / "dataset").glob("layout-*.json"))
    assert first == kernels.layout_name(flat_entries(bundle, out / "wheels"))
    (bundle / "data/a b.GZ").write_text("b")
    assert first != kernels.layout_name(flat_entries(bundle, out / "wheels"))


@pytest.mark.parametrize(("change", "said"), [
    ({"slug": "ich"}, "5 to 50"), ({"slug": "a" * 45}, "6 to 50"), ({"slug": "Radstack-ich"}, "small letters"),
    ({"slug": "a--b-c-d"}, "single hyphens"), ({"user": "Me And You"}, "no user's name"),
    ({"title": "another title"}, "becomes 'another-title'"), ({"title": "r" * 51}, "has 51 characters"),
    ({"licenses": ()}, "exactly one license"), ({"licenses": ("other", "CC0-1.0")}, "exactly one license"),
    ({"licenses": ("MIT",)}, "knows no license 'MIT'"), ({"competition": ""}, "names no competition"),
    ({"competition": "Head CT"}, "names no competition"), ({"competition": "a/b/c/d"}, "no data set")])
def test_what_kaggle_refuses_is_said_before_anything_is_written(bundle, tmp_path, change, said):
    names = {"user": "me", "slug": "radstack-ich", "title": "", **change}
    user, slug, title = (names[name] for name in ("user", "slug", "title"))
    of_the_task = {name: value for name, value in change.items() if name in ("licenses", "competition")}
    asked = replace(Asked(COMPETITION, "sample.csv"), **of_the_task)
    with pytest.raises(UserError, match=said) as error:
        write_kernel(bundle, tmp_path / "out", user, slug, asked, title=title)
    assert one_line(error) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("change", "said"), [
    ({"enable_internet": True}, "enable_internet = true; it must be false"), ({"enable_internet": "false"}, "must be false"),
    ({"is_private": False}, "is_private"), ({"machine_shape": None}, "NvidiaTeslaT4"),
    ({"id": BUNDLE, "title": "radstack ich bundle"}, "share the name"),
    ({"dataset_sources": ["bundle"]}, "no data set")])
def test_metadata_edited_by_hand_are_checked_again(change, said):
    kernel = kernel_metadata("me", "radstack-ich", "radstack ich", COMPETITION)
    with pytest.raises(UserError, match=said) as error:
        check(dataset_metadata("me", "radstack-ich", ("other",)), {**kernel, **change})
    assert one_line(error)


def test_titles_become_addresses_as_at_kaggle():
    assert slugify("RSNA_2019 ich: äx  --foo ") == "rsna-2019-ich-ax-foo"


def test_too_many_files_or_no_bundle_are_refused(bundle, monkeypatch, tmp_path):
    monkeypatch.setattr(kernels, "MOST_FILES", 9)
    with pytest.raises(UserError, match="10 files.*bundle fewer models"):
        flat_entries(bundle, None)
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        write_kernel(tmp_path / "none", tmp_path / "out", "me", "radstack-ich", Asked(COMPETITION, "sample.csv"))


def test_the_notebook_says_what_is_not_mounted(out, mounted, tmp_path):
    here = mounted / "datasets/me/radstack-ich-bundle"
    digest = json.loads(code_of(out / "kernel/notebook.ipynb").rpartition("json.loads('")[2].partition("')")[0])["manifest"]
    assert on_kaggle.find_bundle(mounted, digest, BUNDLE) == here
    with pytest.raises(on_kaggle.Stop, match="another one lies in .*add the data set me/radstack-ich-bundle"):
        on_kaggle.find_bundle(mounted / "datasets/other", digest, BUNDLE)
    with pytest.raises(on_kaggle.Stop, match=r"none\.csv is not below .*accept its rules"):
        on_kaggle.find_marker(mounted, "none.csv", COMPETITION)
    layout = next(here.glob("layout-*.json")).name
    (here / "predict.py").write_text("short")
    with pytest.raises(on_kaggle.Stop, match=r"1 of 10 files .*first: predict\.py"):
        on_kaggle.put_together(here, layout, tmp_path / "there")
    (here / layout).write_text(json.dumps([{"name": "apply.txt", "part": "bundle", "path": "../../x", "bytes": 14}]))
    with pytest.raises(on_kaggle.Stop, match="lies outside"):
        on_kaggle.put_together(here, layout, tmp_path / "there")


def test_the_test_pictures_are_those_beside_the_marker(mounted):
    place = mounted / "competitions" / COMPETITION
    assert on_kaggle.test_pictures(place / "sample.csv", ()) == place / "test"
    assert on_kaggle.test_pictures(place / "sample.csv", ("no", "train")) == place / "train"
    assert on_kaggle.test_pictures(place / "sample.csv", ("no",)) == place / "test"
    assert on_kaggle.test_pictures(place / "test", ()) == place / "test"
    (place / "test_2").mkdir()
    with pytest.raises(on_kaggle.Stop, match="which folder .*test, test_2, train"):
        on_kaggle.test_pictures(place / "sample.csv", ())


def test_folders_are_listed_level_by_level_and_no_deeper_than_needed(tmp_path, monkeypatch):
    (tmp_path / "a/deep").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "a/deep/loop").symlink_to(tmp_path)
    listed = []
    monkeypatch.setattr(on_kaggle, "_entries", lambda folder, _old=on_kaggle._entries: listed.append(folder) or _old(folder))
    assert on_kaggle.find_marker(tmp_path, "b", COMPETITION) == tmp_path / "b" and not listed
    assert len(list(on_kaggle.folders(tmp_path))) < 30


class Site:
    """Kaggle, as far as the client shows it. ``status`` is what a new version goes through; ``lose`` what it loses."""

    def __init__(self, api):
        self.api, self.config_values = api, {"username": "me"}
        self.versions, self.steps, self.queue, self.lose = [], ["blobs_received", "ready"], ["ready"], ()
        self.refuse, self.dropped, self.runs, self.calls = {}, {}, ["RUNNING", "COMPLETE"], []

    def __getattr__(self, name):
        inspect.signature(getattr(self.__dict__["api"], name))
        raise AttributeError(name)

    def called(self, name, *args, **kwargs):
        inspect.signature(getattr(self.api, name)).bind(None, *args, **kwargs)  # as the package itself has it
        self.calls.append(name)
        print("noise of the client")
        if name in self.refuse:
            status = self.refuse[name]
            raise requests.HTTPError(f"{status} Client Error: Forbidden", response=SimpleNamespace(status_code=status))

    def dataset_status(self, dataset, format=None):
        self.called("dataset_status", dataset, format)
        if not self.versions:
            raise requests.HTTPError("404", response=SimpleNamespace(status_code=404))
        if format:
            return json.dumps({"status": "ready", "current_version_number": len(self.versions)})
        return self.queue.pop(0) if len(self.queue) > 1 else self.queue[0]

    def take(self, folder):
        self.versions.append({path.name: path.stat().st_size for path in Path(folder).iterdir()
                              if path.name != "dataset-metadata.json" and path.name not in self.lose})
        self.queue = list(self.steps)
        answer = ApiCreateDatasetResponse()
        answer.status = "ok"
        return answer

    def dataset_create_new(self, *args, **kwargs):
        self.called("dataset_create_new", *args, **kwargs)
        return self.take(args[0])

    def dataset_create_version(self, *args, **kwargs):
        self.called("dataset_create_version", *args, **kwargs)
        return self.take(args[0])

    def dataset_list_files(self, dataset, page_token=None, page_size=20):
        self.called("dataset_list_files", dataset, page_token, page_size)
        files = sorted(self.versions[int(dataset.rpartition("/")[2]) - 1].items())
        first, answer = int(page_token or 0), ApiListDatasetFilesResponse()
        answer.dataset_files = [self.file(*item) for item in files[first: first + 2]]
        answer.next_page_token = str(first + 2) if first + 2 < len(files) else ""
        return answer

    def file(self, name, size):
        one = ApiDatasetFile()
        one.name, one.total_bytes = name, size
        return one

    def kernels_push(self, folder):
        self.called("kernels_push", folder)
        self.pushed = json.loads((Path(folder) / "kernel-metadata.json").read_text())
        answer = ApiSaveKernelResponse()
        answer.ref, answer.version_number = f"/code/{self.pushed['id']}", 3
        for name, value in self.dropped.items():
            setattr(answer, name, value)
        return answer

    def kernels_status(self, kernel):
        self.called("kernels_status", kernel)
        answer = ApiGetKernelSessionStatusResponse()
        answer.status = KernelWorkerStatus[self.runs.pop(0) if len(self.runs) > 1 else self.runs[0]]
        answer.failure_message = "out of\nmemory" if answer.status is KernelWorkerStatus.ERROR else None
        return answer


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "k")
    from kaggle.api.kaggle_api_extended import KaggleApi
    return Site(KaggleApi)


@pytest.fixture
def pushed(site, out):
    site.said, site.slept = [], []
    return lambda: send.push(site, out, competition=COMPETITION, sleep=site.slept.append, report=site.said.append)


def version(site, pushed):
    """Of the data set that the notebook reads after a push."""
    pushed()
    return int(site.pushed["dataset_sources"][0].rpartition("/")[2])


def refused(pushed, match):
    with pytest.raises(UserError, match=match) as error:
        pushed()
    return one_line(error)


def test_the_data_set_goes_first_and_the_notebook_names_its_version(site, pushed, capfd):
    assert pushed() == send.Sent(3, REF)
    assert list(dict.fromkeys(site.calls)) == ["dataset_status", "dataset_create_new", "dataset_list_files", "kernels_push",
                                               "kernels_status"]
    assert site.pushed["dataset_sources"] == [f"{BUNDLE}/1"] and len(site.slept) == 3
    assert f"competitions submit {COMPETITION} -k {REF} -v 3 -f submission.csv" in site.said[-1]
    assert capfd.readouterr().out == ""


def test_what_has_arrived_is_not_sent_again_and_a_change_makes_a_version(site, pushed, out, bundle):
    pushed()
    site.calls.clear()
    assert version(site, pushed) == 1 and not {"dataset_create_new", "dataset_create_version"} & set(site.calls)
    (bundle / "src/ours/__init__.py").write_text("P = 0.26\n")  # as many bytes as before
    write_kernel(bundle, out, "me", "radstack-ich", Asked(COMPETITION, "sample.csv"), wheels=out / "wheels")
    assert version(site, pushed) == 2 and "dataset_create_version" in site.calls
    assert site.pushed["dataset_sources"] == [f"{BUNDLE}/2"]


def test_a_lost_upload_reported_as_success_is_an_error_and_the_next_call_sends_it(site, pushed):
    site.lose = ("predict.py",)
    said = refused(pushed, r"1 files did not reach .*version 1.*first: predict\.py")
    assert "run the same command again" in said and "kernels_push" not in site.calls
    site.lose = ()
    assert version(site, pushed) == 2


def test_a_data_set_that_never_gets_ready_ends_with_what_to_do(site, pushed):
    site.steps = ["blobs_received"]
    said = refused(pushed, "no new version after 60 minutes .*blobs_received")
    assert "datasets/me/radstack-ich-bundle" in said and len(site.slept) == send.DATASET_LOOKS
    assert "kernels_push" not in site.calls
    site.queue = ["blobs_decompressed", "ready"]
    assert version(site, pushed) == 1 and site.calls.count("dataset_create_new") == 1


def test_a_data_set_that_kaggle_cannot_unpack(site, pushed):
    site.steps = ["failed"]
    refused(pushed, "could not unpack .*datasets/me/radstack-ich-bundle.*run the same command again")


def test_an_old_version_that_stays_ready_is_not_taken_for_the_new_one(site, pushed, out):
    pushed()
    site.versions[0].pop("predict.py")
    site.take = lambda folder: SimpleNamespace(status="ok")  # nothing happens
    refused(pushed, "no new version after 60 minutes .*says ready")


def test_403_before_the_first_version_is_ready(site, pushed):
    site.versions.append({})
    site.queue = ["not_yet_persisted", "ready"]  # from a push that was cut off: it is waited for
    assert version(site, pushed) == 2
    site.versions[:], site.refuse = [{}], {"dataset_create_version": 403}
    said = refused(pushed, "status 403.*refused until the one before it is ready: wait until .*run the same command again")
    assert "datasets/me/radstack-ich-bundle" in said


@pytest.mark.parametrize(("kind", "named", "todo"), [
    ("dataset", BUNDLE, "see that it is ready"), ("competition", COMPETITION, "accept its rules")])
def test_dropped_sources_are_an_error_although_the_push_succeeds(site, pushed, kind, named, todo):
    site.dropped = {f"invalid_{kind}_sources": [named]}
    refused(pushed, f"without the {kind} {named}; {todo}.*run the same command again")
    assert "kernels_status" not in site.calls


@pytest.mark.parametrize(("dropped", "said"), [
    ({"error": "Notebook not found\n"}, "did not take the notebook .*Notebook not found"),
    ({"ref": "/code/me/notebook123"}, "calls the notebook /code/me/notebook123, not me/radstack-ich")])
def test_other_answers_of_a_push(site, pushed, dropped, said):
    site.dropped = dropped
    refused(pushed, said)


def test_a_notebook_that_fails_or_never_ends(site, pushed):
    site.runs = ["QUEUED", "ERROR"]
    refused(pushed, r"ended with error \(out of memory\); read its log at https://www\.kaggle\.com/code/me/radstack-ich")
    site.runs = ["RUNNING"]
    refused(pushed, "not complete after 12 hours")


def test_credentials_of_another_user_and_refusals_of_kaggle(site, pushed):
    site.config_values = {"username": "You"}
    refused(pushed, "written for the user me, and the credentials are of You")
    assert site.calls == []
    site.config_values = {}
    for name, status, said in (("dataset_status", 401, "new token"), ("kernels_push", 403, "accept the rules of head-ct"),
                               ("kernels_push", 429, "wait some minutes")):
        site.refuse = {name: status}
        refused(pushed, f"status {status}.*{said}.*run the same command again")


def test_no_answer_is_no_success(site, pushed):
    site.take = lambda folder: None
    refused(pushed, "did not take the data set .*run the same command again")


def pip_of(folder, known):
    """A pip that has the wheels ``known``: name -> (version, needs, tags)."""

    def run(command):
        what, into = command[-1], Path(command[command.index("--dest" if "download" in command else "--wheel-dir") + 1])
        name = what.partition("=")[0].partition(">")[0]
        asked.append(("download" if "download" in command else "wheel", what))
        version, needs, tags, verb = known.get(name, ("", (), "", ""))
        if verb == asked[-1][0]:
            make_wheel(into, name, version, needs, tags)
        return SimpleNamespace(returncode=0 if verb else 1, stderr=f"\nERROR: No matching distribution found for {what}\n")

    asked = []
    return run, asked


CP312 = "cp312-cp312-manylinux_2_28_x86_64"


def test_wheels_come_with_their_needs_and_without_what_the_image_has(tmp_path):
    (tmp_path / "apply.txt").write_text(
        "# made\nnumpy==2.4.6\ndecoder==2.1 ; sys_platform == 'linux'\nwin==1 ; os_name == 'nt'\n"
        "old-nets==0.7\nnvidia-cudnn-cu13==9\ninner==3.0\n")
    more = ("numpy>=2,<3", "inner>=2", "other; extra == 'all'", "late; python_version < '3.12'")
    run, asked = pip_of(tmp_path, {
        "decoder": ("2.1", more, CP312, "download"),
        "inner": ("3.0", ("Deeper_Need",), "cp39-abi3-manylinux2014_x86_64", "download"),
        "Deeper_Need": ("1.5", (), "py3-none-any", "download"), "old-nets": ("0.7", ("torch",), "py3-none-any", "wheel")})
    make = functools.partial(wheels.make_wheels, tmp_path / "apply.txt", run=run, report=lambda line: None)
    made = make(tmp_path / "wheels")
    assert {path.name.split("-")[0] for path in made} == {"decoder", "inner", "Deeper_Need", "old_nets"}
    assert [what for verb, what in asked if verb == "download"].count("inner==3.0") == 1
    one = make(tmp_path / "one", ["old-nets", "win"])
    assert [path.name for path in one] == ["old_nets-0.7-py3-none-any.whl"]
    make_wheel(tmp_path / "wheels", "stale")
    asked.clear()
    assert make(tmp_path / "wheels") == made
    assert asked == [] and sorted((tmp_path / "wheels").iterdir()) == made


@pytest.mark.parametrize(("known", "said"), [
    ({"decoder": ("2.1", ("numpy>=2.4",), CP312, "download")},
     "decoder needs numpy>=2.4, Kaggle's image has 2.0.2; choose another"),
    ({}, "decoder==2.1 has no wheel for Python 3.12 .*No matching distribution.*choose another version"),
    ({"decoder": ("2.1", (), "cp311-cp311-linux_x86_64", "wheel")}, "is not pure Python")])
def test_a_wheel_that_does_not_fit_is_named(tmp_path, known, said):
    (tmp_path / "apply.txt").write_text("decoder==2.1\n")
    run, _ = pip_of(tmp_path, known)
    with pytest.raises(UserError, match=said) as error:
        wheels.make_wheels(tmp_path / "apply.txt", tmp_path / "wheels", run=run, report=lambda line: None)
    assert one_line(error)


def test_pip_is_asked_for_kaggles_python_and_its_own_list_counts(tmp_path):
    command = " ".join(wheels.download_command("decoder==2.1", tmp_path))
    for words in ("--python-version 3.12", "--only-binary=:all:", "--platform manylinux_2_28_x86_64", "--no-deps"):
        assert words in command
    assert "manylinux_2_36" not in command
    has = wheels.read_image("# freeze\nNumPy==2.1.0\nlocal @ file:///x/y.tar.gz\n-e git+https://x\n")
    assert has == {"numpy": "2.1.0", "local": ""} and wheels.read_image()["numpy"] == "2.0.2"


def test_one_call_does_it_all(bundle, site, monkeypatch):
    from radstack.submission import kaggle as client

    said = []
    asked = Asked(COMPETITION, "sample.csv")
    monkeypatch.setattr(wheels, "make_wheels", lambda lock, into, packages, image, report: [make_wheel(into, "tinyneed")])
    monkeypatch.setattr(client, "connect", lambda: site)
    monkeypatch.setattr(send.push, "__kwdefaults__", {**send.push.__kwdefaults__, "sleep": lambda seconds: None})
    with pytest.raises(UserError, match="'' names no competition .*--test-data"):
        kernels.kaggle(bundle, "me", replace(asked, competition=""))
    kernels.kaggle(bundle.with_name("later"), "me", asked, dry_run=True, report=said.append)
    assert "would write" in said.pop() and not (bundle.parent / "later-kaggle").exists()
    out = kernels.kaggle(bundle, "me", asked, True, dry_run=True, report=said.append)
    assert "would write" in said[0] and "tinyneed" in said[0] and f"{REF}-bundle" in said[0] and not out.exists()
    assert kernels.kaggle(bundle, "me", asked, report=said.append) == bundle.with_name("ich-kaggle") and site.calls == []
    kernels.kaggle(bundle, "me", asked, True, report=said.append)
    assert site.pushed["dataset_sources"] == [f"{BUNDLE}/1"] and "submit it with" in said[-1]
