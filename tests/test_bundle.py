"""A bundle of a trained copy of the template: complete, moved, spoiled, halved, rehearsed."""

import filecmp
import functools
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from scripts import run_script
from test_template import TEMPLATE

import competitions
from competitions import load
from radstack.commands import needs
from radstack.commands import rehearse as rehearsal
from radstack.commands.bundle import for_kaggle, make_bundle, write_half, write_sources
from radstack.commands.environment import canonical
from radstack.commands.needs import LEFT_OUT, closure, distributions, lock_lines, with_needs
from radstack.commands.predict import faults, other_versions, read_manifest, sound
from radstack.commands.rehearse import (
    check_modules,
    compared,
    link_pictures,
    make_environment,
    rehearse,
    rehearse_notebook,
    timed,
)
from radstack.core.artifact import content_hash
from radstack.core.errors import Missing, UserError
from radstack.core.files import sha256
from radstack.core.lock import alone
from radstack.core.recipe import change
from radstack.images.own.source import Source
from radstack.recipes.experiment import Train
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.running.device import has_gpu, works
from radstack.stack.registry import method_of
from radstack.stack.store import read_fitted
from radstack.submission.kernel import Asked, write_kernel

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def parsed_once():
    """Each source is parsed once for all bundles that are made in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(needs, "_imported", functools.cache(lambda path, parse=needs._imported: tuple(parse(path))))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A copy of the template called ``lumps`` through stage 08: two short networks, one of two seeds, and their stack."""
    place = tmp_path_factory.mktemp("trained")
    shutil.copytree(TEMPLATE, place / "mine" / "lumps", ignore=shutil.ignore_patterns("__pycache__"))
    for file in (place / "mine" / "lumps").glob("*.py"):
        file.write_text(file.read_text(encoding="utf-8").replace("_template", "lumps").replace(
            "epochs=10", "epochs=3").replace("scale=7.0", "scale=7.0, squared=True").replace(
            'name="byobnet",', 'name="byobnet", train__seeds=2,'), encoding="utf-8")
    command(place, "00_get_data", "--demo-size", "16")
    for script in ("01_make_folds", "02_localize", "03_cache"):
        command(place, script, "--workers", "1")
    for script in ("04_train", "05_predict", "07_stack", "08_submit"):
        command(place, script)
    return place


def command(place, script, *options, fails=False):
    done = run_script(script, "lumps", "--demo", "--data-dir", place, "--out-dir", place, *options,
                      RADSTACK_COMPETITIONS=str(place / "mine"))
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def bundle(trained):
    command(trained, "bundle")
    return trained / "bundles/lumps-demo"


@pytest.fixture
def context(trained, monkeypatch):
    """The trained copy in this process."""
    monkeypatch.setattr(competitions, "__path__", [*competitions.__path__, str(trained / "mine")])
    monkeypatch.setattr(competitions, "NAMES", (*competitions.NAMES, "lumps"))
    options = Options(data_dir=str(trained), out_dir=str(trained), device="cpu", workers=1)
    return make_context(load("lumps", demo=True), options)


@pytest.fixture
def copy(bundle, tmp_path):
    """The bundle elsewhere, to be spoiled."""
    return shutil.copytree(bundle, tmp_path / "moved bündle")


def predict(place, trained, out, *options):
    """Run a bundle's ``predict.py`` on all pictures, forked from a process that knows nothing of the repository."""
    return run_script(place / "predict.py", trained / "input/lumps-demo/pictures", out, "--sample-submission",
                      trained / "input/lumps-demo/test.csv", "--device", "cpu", "--workers", "1", *options)


def test_a_bundle_holds_what_apply_needs_and_nothing_else(bundle):
    made = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert {name for name in made if "/" not in name} == {
        "predict.py", "manifest.json", "apply.txt", "report.txt", "recipes.json"}
    files = {"resnet": (".safetensors",), "byobnet": (".safetensors", "_seed1.safetensors"),
             "final": (".safetensors", "_state.json")}
    learned = {f"weights/lumps-demo/{name}/fold{fold}{end}{manifest}"
               for name, ends in files.items() for fold in range(3) for end in ends for manifest in ("", ".json")}
    learned |= {f"weights/lumps-demo/training_{name}.parquet" for name in ("facts", "answers")}
    learned.add("weights/lumps-demo/prior.json")
    assert {name for name in made if name.startswith("weights/")} == learned
    sources = {name for name in made if name.startswith("src/")}
    assert {"src/apply.py", "src/radstack/stages/apply.py", "src/competitions/lumps/demo.py"} <= sources
    assert not [name for name in sources if "phantoms" in name or "/ich/" in name]
    assert made == learned | sources | {"predict.py", "manifest.json", "apply.txt", "report.txt", "recipes.json"}


def test_the_manifest_says_what_was_bundled_and_how_well_it_scores(bundle, trained):
    manifest = read_manifest(bundle)
    assert not list(faults(bundle, manifest))
    assert manifest["members"] == {"resnet": [0, 1, 2], "byobnet": [0, 1, 2], "final": [0, 1, 2]}
    stacked = json.loads((trained / "oof/lumps-demo/final/fold0.parquet.json").read_text())
    assert manifest["scores"]["final"] == stacked["score"] and {"low", "high"} <= set(stacked["score"])
    assert manifest["folds"] == stacked["fold_hash"] and len(manifest["scores"]["resnet"]) == 3
    assert json.loads((bundle / "recipes.json").read_text())["byobnet"]["backbone"]["name"] == "timm/test_byobnet"
    for file in (bundle / "weights").rglob("*.safetensors"):  # what apply checks first
        assert content_hash(file) == manifest["files"][file.relative_to(bundle).as_posix()]["sha256"]


def test_a_moved_bundle_gives_the_bytes_of_apply_and_leaves_itself_as_it_was(copy, trained, tmp_path):
    before = rehearsal.listing(copy)
    done = predict(copy, trained, tmp_path / "out.csv")
    assert done.returncode == 0 and not done.stderr, done.stderr
    given = ("--sample-submission", trained / "input/lumps-demo/test.csv", "--device", "cpu", "--workers", "1")
    command(trained, "apply", trained / "input/lumps-demo/pictures", tmp_path / "there.csv", *given)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()
    assert (tmp_path / "out_quarantine.csv").read_bytes() == (tmp_path / "there_quarantine.csv").read_bytes()
    assert rehearsal.listing(copy) == before


def test_a_bundle_writes_the_page_of_the_repository_with_what_it_keeps_of_training(copy, trained, tmp_path):
    labels = pd.read_csv(trained / "input/lumps-demo/train.csv")
    labels.to_csv(tmp_path / "labels.csv", index=False)
    wishes = ("--report", "--labels", tmp_path / "labels.csv")
    done = run_script(copy / "predict.py", trained / "input/lumps-demo/pictures", tmp_path / "out.csv", "--device", "cpu",
                      "--workers", "1", *wishes)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    command(trained, "apply", trained / "input/lumps-demo/pictures", tmp_path / "there.csv", "--device", "cpu",
            "--workers", "1", *wishes)
    page = (tmp_path / "out_report.html").read_text("utf-8")
    assert "Intervals: an answer" in page and "Shift from training to these pictures" in page and "Bland-Altman" in page
    assert "The cached picture; circle" in page and "worst" in page
    plain = [re.sub(r'(id|href|clip-path|url)="?[^" ]*"?|#[a-z0-9-]+', "", path.read_text("utf-8"))
             for path in (tmp_path / "out_report.html", tmp_path / "there_report.html")]
    assert plain[0] == plain[1]
    kept = pd.read_parquet(copy / "weights/lumps-demo/training_answers.parquet")
    facts = pd.read_parquet(copy / "weights/lumps-demo/training_facts.parquet")
    assert set(kept) == {"diameter", "said diameter"} and len(kept) == len(labels)
    assert not {"id", "path", "series"} & set(facts) and set(facts["group"]) <= set(map(str, range(len(facts))))


def test_a_page_without_its_packages_is_refused_before_anything_is_done(context, trained, tmp_path, monkeypatch):
    from radstack.commands import apply as applying

    monkeypatch.setattr(applying, "find_spec", lambda name: None if name == "jinja2" else object())
    with pytest.raises(UserError, match="draws with jinja2, which this Python lacks; pip install -r report.txt"):
        applying.run_apply(context, applying.Wish(trained, tmp_path / "out.csv", report=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda place: flip(place / "weights/lumps-demo/final/fold1.safetensors"), "final/fold1.safetensors was changed"),
    (lambda place: flip(place / "src/apply.py"), "src/apply.py was changed"),
    (lambda place: (place / "weights/lumps-demo/resnet/fold2.safetensors").unlink(), "fold 2 of resnet is missing"),
    (lambda place: (place / "src/radstack/numpy.py").write_text(""), "src/radstack/numpy.py is not of this bundle"),
    (lambda place: edit(place, format=0), "is of format 0, and this predict.py reads 1"),
    (lambda place: edit(place, members={"resnet": [0, 1, 7]}), "fold 7 of resnet is missing"),
    (lambda place: edit(place, files={"../../etc/passwd": {"sha256": "", "size": 1}}), "one of the wrong kind"),
    (lambda place: edit(place, competition="lumps; import os"), "there is no competition"),
    (lambda place: edit(place, edits=["folds.count=__import__('os').getpid()"]), "takes a int"),
    (lambda place: (place / "manifest.json").write_text("{"), "cannot be read")])
def test_a_spoiled_bundle_ends_in_one_line(copy, trained, tmp_path, spoil, said):
    spoil(copy)
    done = predict(copy, trained, tmp_path / "out.csv")
    assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "out.csv").exists()


def flip(file):
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)


def edit(place, **values):
    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps(manifest | values))


def test_other_versions_are_one_line_and_it_tries(copy, trained, tmp_path):
    manifest = json.loads((copy / "manifest.json").read_text())
    edit(copy, python="3.2.1", packages=manifest["packages"] | {"numpy": "1.0", "no-such-package": "2.0"})
    done = predict(copy, trained, tmp_path / "out.csv")
    assert done.returncode == 0 and (tmp_path / "out.csv").exists() and len(done.stderr.splitlines()) == 1
    assert "made with 3.2.1" in done.stderr and "no-such-package missing (made with 2.0)" in done.stderr
    assert done.stderr.strip().endswith("trying")
    assert other_versions(manifest) == ""
    (copy / "src/radstack/stages/apply.py").write_text("raise ImportError('torch has no such name')")
    file = "src/radstack/stages/apply.py"
    known = {"size": (copy / file).stat().st_size, "sha256": sha256(copy / file)}
    edit(copy, python="3.2.1", files=manifest["files"] | {file: known})
    done = predict(copy, trained, tmp_path / "other.csv")
    assert done.returncode == 1 and "pip install -r" in done.stderr and "Traceback" not in done.stderr


def test_without_words_it_says_how_it_is_called(copy, trained):
    assert "python predict.py FOLDER OUT.csv" in run_script(copy / "predict.py", "--help").stdout
    assert run_script(copy / "predict.py").returncode == 2


def test_a_manifest_of_wrong_kinds_is_refused(bundle):
    whole = json.loads((bundle / "manifest.json").read_text())
    assert sound(whole)
    for wrong in ({"files": []}, {"limit": "1"}, {"members": {"resnet": 3}}, {"edits": [1]}, {"packages": {"numpy": 2}},
                  {"files": {"/etc/passwd": {"size": 1, "sha256": ""}}}):
        assert not sound(whole | wrong), wrong
    assert not sound({name: value for name, value in whole.items() if name != "members"})


def test_half_stores_networks_only_and_its_manifests_fit(context, trained, tmp_path, monkeypatch):
    there = elsewhere(context, tmp_path, trained)
    place = make_bundle(there, half=True)
    manifest, whole = read_manifest(place), trained / "weights/lumps-demo"
    assert manifest["half"] and not list(faults(place, manifest))
    net, full = (load_file(folder / "resnet/fold0.safetensors") for folder in (place / "weights/lumps-demo", whole))
    assert {value.dtype for value in net.values() if value.ndim > 1} == {torch.float16}
    assert all(value.dtype == full[name].dtype for name, value in net.items() if value.ndim < 2)
    stacked = "final/fold0.safetensors"
    assert (place / "weights/lumps-demo" / stacked).read_bytes() == (whole / stacked).read_bytes()
    halved = place / "weights/lumps-demo/resnet/fold0.safetensors"
    note = json.loads(halved.with_name("fold0.safetensors.json").read_text())
    assert note["half_of"] == content_hash(whole / "resnet/fold0.safetensors")
    assert note["files"][halved.name]["sha256"] == sha256(halved)
    done = predict(place, trained, tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    found, submitted = pd.read_csv(tmp_path / "out.csv"), pd.read_csv(trained / "submissions/lumps-demo/final.csv")
    away = np.abs(found["diameter"] - submitted["diameter"]).max()
    assert 0 < away < 0.1


def elsewhere(context, out, trained):
    """The competition with everything that was made in another folder, so that its bundle is another one."""
    for name in ("folds", "cache", "weights", "oof", "submissions"):
        shutil.copytree(trained / name, out / name, copy_function=shutil.copy2)
    return make_context(context.competition, change(context.options, out_dir=str(out)))


def test_a_number_beyond_half_keeps_its_bits(tmp_path):
    save_file({"large": torch.full((2, 2), 1e6), "small": torch.full((2, 2), 0.1), "one": torch.ones(3),
               "count": torch.ones(2, 2, dtype=torch.int64)}, tmp_path / "a.safetensors")
    write_half(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    kinds = {name: value.dtype for name, value in load_file(tmp_path / "b.safetensors").items()}
    assert kinds == {"large": torch.float32, "small": torch.float16, "one": torch.float32, "count": torch.int64}


def test_what_is_missing_stale_or_edited_is_not_bundled(context, trained, tmp_path, capsys):
    there = elsewhere(context, tmp_path, trained)
    make_bundle(make_context(context.competition, change(there.options, dry_run=True)))
    assert "would make" in capsys.readouterr().out and not (tmp_path / "bundles").exists()
    short = change(there.competition.recipe("resnet"), train=Train(epochs=3))
    others = tuple(short if one.name == "resnet" else one for one in there.competition.models.experiments)
    with pytest.raises(UserError, match="resnet/fold0.safetensors is stale: the recipe changed"):
        make_bundle(make_context(change(there.competition, models__experiments=others), there.options))
    there = make_context(there.competition, there.options)
    flip(tmp_path / "weights/lumps-demo/resnet/fold1.safetensors")
    with pytest.raises(UserError, match="edited or damaged"):
        make_bundle(there)
    (tmp_path / "weights/lumps-demo/resnet/fold1.safetensors").unlink()
    with pytest.raises(Missing, match=r"04_train\.py lumps --demo --only resnet"):
        make_bundle(there)
    assert not (tmp_path / "bundles").exists()


def test_a_second_run_that_bundles_is_told(context, trained, tmp_path):
    there = elsewhere(context, tmp_path, trained)
    with alone(there.paths.bundle), pytest.raises(UserError, match="another run is writing .*lumps-demo"):
        make_bundle(there)
    assert not list((tmp_path / "bundles").iterdir())


def test_weights_alone_are_enough_for_a_bundle(context, trained, tmp_path):
    for name in ("weights", "oof"):
        shutil.copytree(trained / name, tmp_path / name, copy_function=shutil.copy2)
    place = make_bundle(make_context(context.competition, change(context.options, out_dir=str(tmp_path))))
    manifest = read_manifest(place)
    assert not list(faults(place, manifest)) and manifest["scores"]["final"]
    stacker = context.competition.models.stackers[0]
    assert read_fitted(place / "weights/lumps-demo" / stacker.name, 0, method_of(stacker)).state


def test_the_kaggle_part_is_told_where_the_test_pictures_lie(context, bundle, monkeypatch):
    told = []
    kernel = SimpleNamespace(Asked=Asked, kaggle=lambda *given, **named: told.append((given, named)))
    monkeypatch.setitem(sys.modules, "radstack.submission.kernel", kernel)
    for_kaggle(context, bundle, "me", True)
    usual = Asked("", "test.csv", pictures=["pictures"])
    assert told.pop() == ((bundle, "me", usual, True), {"image": None, "dry_run": False})
    for_kaggle(context, bundle, "me", True, columns="sexes.csv", hours=8.5)
    assert told.pop()[0][2] == replace(usual, columns="sexes.csv", hours=8.5)
    needy = make_context(change(context.competition, data__columns_file=lambda folder: folder / "test.csv"), context.options)
    for_kaggle(needy, bundle, "me", True)
    assert told.pop()[0][2] == replace(usual, columns="test.csv") and load("bone_age").data.columns_file
    with pytest.raises(UserError, match="--hours must be above 0"):
        for_kaggle(context, bundle, "me", True, hours=-1)

    def reading(columns):
        own = Source("number", {"age": ()}, columns={"weight": (60.0, 9.0)})
        return change(context, competition__data__recipe=own, competition__models__experiments__0__head__columns=columns)

    with pytest.raises(UserError, match="read weight beside the pictures; name the table there .*--columns test.csv"):
        for_kaggle(reading(("weight",)), bundle, "me", True)
    for_kaggle(reading(()), bundle, "me", True)  # the table has a column that no network reads


# -- packages ---------------------------------------------------------------------------------------------------------


def test_the_lock_of_apply_has_what_every_competition_imports_and_no_more_than_it_needs():
    for name in ("ich", "bone_age", "knee_age", "radius_ulna"):
        modules, foreign = closure(["apply", f"competitions.{name}"])
        named = distributions(foreign)
        assert {"radstack", "radstack.stages.apply", "radstack.images.dicom", "competitions"} <= set(modules)
        assert {"torch", "timm", "pandas", "pyarrow", "opencv-python-headless", "scikit-learn", "python-gdcm"} <= set(named)
        assert ("simpleitk" in named) == (name == "knee_age")
        lines = {canonical(line.partition("==")[0]) for line in lock_lines(named)}
        assert lines >= set(named) and not lines & {"ray", "kaggle", "tensorboard", "matplotlib", "pytest", "mypy"}
    modules, foreign = closure(["apply"])
    assert not foreign & {"pytest"} and "competitions.ich" not in modules


def test_needs_of_needs_and_of_extras_are_needs(monkeypatch):
    needs = {"a": ["b[x]>1", "c; extra == 'no'", "d; python_version < '3'"], "b": ["e; extra == 'x'", "f; extra == 'y'"]}

    def requires(name):
        if name in needs:
            return needs[name]
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert with_needs(["A"]) == {"a", "b", "e"}


def test_an_import_that_is_not_installed_and_a_need_that_is_not_locked_are_named(tmp_path):
    with pytest.raises(UserError, match="no_such_package: imported, not installed"):
        distributions({"no_such_package", *LEFT_OUT})
    (tmp_path / "lock.txt").write_text("numpy==2.0\n")
    with pytest.raises(UserError, match="no line for pandas"):
        lock_lines(["numpy", "pandas"], tmp_path / "lock.txt")


# -- the rehearsal ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_rehearsal_ends_in_the_submissions_bytes(trained):
    said = command(trained, "bundle", "--rehearse", "--device", "cpu", "--workers", "1").stdout
    assert "the same bytes as" in said and "of 9 hours" in said and "MB in the largest process" in said
    found = json.loads((trained / "bundles/lumps-demo_rehearsal.json").read_text())
    assert found["equal"] and found["files"] == 8 and 0 < found["share"] < 1 and found["peak_mb"] > 100


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An environment of few packages."""
    place = tmp_path_factory.mktemp("small")
    (place / "lock.txt").write_text(f"six=={metadata.version('six')}\npackaging=={metadata.version('packaging')}\n")
    return make_environment(place / "lock.txt", place / "environment")


def asked(python, code, place, refuse=True):
    (place / "asked.py").write_text(code)
    return timed([str(python), "-I", str(place / "asked.py")], place, refuse)


def test_the_environment_has_the_lock_and_no_more(small, tmp_path):
    asked(small, "import six, packaging, importlib.util as u, sys\nsys.exit(u.find_spec('numpy') is not None)", tmp_path)
    noted = (tmp_path / "modules.txt").read_text()
    assert str(small.parents[1]) in noted and "site-packages/six.py" in noted
    check_modules(tmp_path / "modules.txt", (small.parents[1], tmp_path))
    with pytest.raises(UserError, match=r"modules from outside the bundle and its environment: .*asked\.py"):
        check_modules(tmp_path / "modules.txt", (small.parents[1],))


def test_a_sitecustomize_of_the_system_does_not_end_the_watch(small, tmp_path):
    """Debian's Python has one, and reads no other."""
    own = next(small.parents[1].rglob("six.py")).with_name("sitecustomize.py")
    own.write_text("")
    try:
        asked(small, "import six", tmp_path)
    finally:
        own.unlink()
    assert "site-packages/six.py" in (tmp_path / "modules.txt").read_text()


@pytest.mark.parametrize("code", ["import socket; socket.create_connection(('127.0.0.1', 9))",
                                  "import urllib.request as r; r.urlopen('http://localhost:9')",
                                  "import socket; socket.getaddrinfo('example.org', 80)"])
def test_without_unshare_sockets_are_refused(small, tmp_path, code):
    with pytest.raises(UserError, match=r"predict\.py failed in the rehearsal: .*no network in a rehearsal"):
        asked(small, code, tmp_path)


def test_processes_still_talk_to_each_other(small, tmp_path):
    asked(small, "import socket\na, b = socket.socketpair()\na.send(b'x')\nassert b.recv(1) == b'x'\n"
          "s = socket.socket(socket.AF_UNIX); s.bind('door'); s.listen(1)\n"
          "socket.socket(socket.AF_UNIX).connect('door')", tmp_path)


def test_with_unshare_there_is_no_network_no_repository_and_nothing_to_write_to(small, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one").write_text("1")
    (tmp_path / "seen").mkdir()
    prefix = rehearsal.apart(tmp_path / "pictures", tmp_path / "seen")
    if not prefix:
        pytest.skip("this system lets nobody unshare")
    code = (f"import os, socket, sys\nassert os.listdir({str(tmp_path / 'seen')!r}) == ['one']\n"
            f"assert not os.listdir({str(ROOT / 'src')!r}) and [n for _, n in socket.if_nameindex()] == ['lo']\n"
            f"open({str(tmp_path / 'seen/two')!r}, 'w')")
    (tmp_path / "asked.py").write_text(code)
    with pytest.raises(UserError, match="Read-only file system"):
        timed([*prefix, str(small), "-I", str(tmp_path / "asked.py")], tmp_path, False)
    assert (ROOT / "src/apply.py").exists() and os.listdir(tmp_path / "seen") == []


def test_a_lock_that_cannot_be_had_says_so(tmp_path, monkeypatch):
    (tmp_path / "lock.txt").write_text("six==0.0.1\n")
    ran = []

    def pip(words, **how):
        ran.append(words)
        return SimpleNamespace(returncode=1, stderr="ERROR: one\nERROR: no matching distribution\n")

    monkeypatch.setattr(rehearsal.subprocess, "run", pip)
    monkeypatch.setattr(rehearsal.venv, "EnvBuilder", lambda **how: SimpleNamespace(create=lambda place: None))
    with pytest.raises(UserError, match=r"cannot be installed \(ERROR: no matching distribution\)"):
        make_environment(tmp_path / "lock.txt", tmp_path / "environment")
    assert ran[0][:4] == [sys.executable, "-m", "pip", "--python"]


def test_a_difference_is_named_with_its_place(tmp_path):
    table = pd.DataFrame({"id": ["a", "b"], "x": [1.0, 2.0], "y": [3.0, 4.0]})
    table.to_csv(tmp_path / "theirs.csv", index=False)
    table.assign(y=[3.0, 4.25]).to_csv(tmp_path / "ours.csv", index=False)
    assert compared(tmp_path / "theirs.csv", tmp_path / "theirs.csv")["equal"]
    found = compared(tmp_path / "ours.csv", tmp_path / "theirs.csv")
    assert not found["equal"] and found["difference"] == "at most 0.25, in y of b" and found["largest"] == 0.25
    table.assign(id=["a", "c"]).to_csv(tmp_path / "ours.csv", index=False)
    with pytest.raises(UserError, match="other rows"):
        compared(tmp_path / "ours.csv", tmp_path / "theirs.csv")


def test_pictures_of_two_files_and_of_folders_are_linked_whole(tmp_path):
    for name in ("a/one.mhd", "a/one.raw", "a/one_more.raw", "b/c/1.dcm", "b/c/2.dcm", "d.png", "e.png"):
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_text(name)
    link_pictures(tmp_path / "from", ["a/one.mhd", "b/c", "d.png", "gone.png"], tmp_path / "to")
    assert set(rehearsal.listing(tmp_path / "to")) == {"a/one.mhd", "a/one.raw", "b/c/1.dcm", "b/c/2.dcm", "d.png"}


def test_a_users_table_holds_what_the_index_says_of_a_file_and_no_label():
    index = pd.DataFrame({"id": ["a1", "a2", "b"], "group": ["p", "p", "q"], "split": ["test", "test", "train"],
                          "male": [1, 1, 0], "path": ["a.mhd", "a.mhd", "b.mhd"], "age": [np.nan, np.nan, 3.0]})
    table = rehearsal.columns_of(index, ("age",))
    assert table.to_dict("records") == [{"id": "a1", "subject": "p", "male": 1, "path": "a.mhd", "file": "a.mhd"}]


def test_real_pictures_cannot_be_drawn_and_a_submission_must_be_there(context, bundle, tmp_path):
    with pytest.raises(UserError, match="--times draws phantoms"):
        rehearse(make_context(change(context.competition, phantoms=None), context.options), bundle, 2)
    nowhere = make_context(context.competition, change(context.options, out_dir=str(tmp_path)))
    with pytest.raises(Missing, match=r"08_submit\.py"):
        rehearse(nowhere, bundle)


# -- the GPU ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def card(monkeypatch):
    """A GPU that torch lists; ``ones`` on it is what the test makes of it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    works.cache_clear()
    yield functools.partial(monkeypatch.setattr, torch, "ones")
    works.cache_clear()


def test_a_gpu_that_torch_was_not_built_for_is_left_alone_and_named_once(card, capsys):
    def refuse(*shape, device):
        assert device == "cuda"
        raise torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device")

    card(refuse)
    assert not has_gpu() and not has_gpu()
    said = capsys.readouterr().out
    assert said.count("no kernel image") == 1 and "going on with the CPU" in said and len(said.splitlines()) == 1


def test_a_gpu_that_computes_is_used(card):
    zeros = torch.zeros
    card(lambda shape, device: zeros(shape))
    assert has_gpu()


def test_the_notebook_is_rehearsed_as_it_would_run_at_kaggle(context, bundle, trained, tmp_path):
    def written(name, **more):
        asked = Asked("me/lumps", "test.csv", pictures=("pictures",), **more)
        write_kernel(bundle, tmp_path / name, "me", "radstack-lumps", asked)
        return tmp_path / name

    python = make_environment(bundle / "apply.txt", tmp_path / "environment")
    table = context.paths.input / "sexes.csv"
    table.write_text("id,sex\n", "utf-8")
    needy = change(context, competition__data__columns_file=lambda folder: table)
    found = rehearse_notebook(needy, written("good", columns="sexes.csv"), python, tmp_path / "run")
    assert found["equal"] and found["seconds"] > 0
    table.unlink()
    with pytest.raises(UserError, match="the notebook failed in the rehearsal: .*sexes.csv is not below"):
        rehearse_notebook(context, written("bad", columns="sexes.csv"), python, tmp_path / "again")


# -- what a changed label costs ---------------------------------------------------------------------------------------


def test_a_changed_label_costs_the_networks_that_learned_from_it_and_what_follows(trained, tmp_path):
    for name in ("input", "folds", "cache", "weights", "oof", "submissions"):
        shutil.copytree(trained / name, tmp_path / name, copy_function=shutil.copy2)
    folds = pd.read_csv(tmp_path / "folds/lumps-demo/folds.csv", dtype={"group": str})
    table = pd.read_csv(tmp_path / "input/lumps-demo/train.csv", dtype=str)
    row = table["diameter"].astype(float).idxmax()
    own = int(folds.set_index("group").loc[table.loc[row, "patient"], "fold"])
    others = [fold for fold in range(3) if fold != own]
    table.loc[row, "diameter"] = "13.0"  # far below what it was, and large still, so that folds are dealt alike
    table.to_csv(tmp_path / "input/lumps-demo/train.csv", index=False)

    def made(script):
        done = run_script(script, "lumps", "--demo", "--data-dir", tmp_path, "--out-dir", tmp_path,
                          RADSTACK_COMPETITIONS=str(trained / "mine"))
        assert done.returncode == 0, done.stdout + done.stderr
        return set(re.findall(r"^  (?:making|to make) (.*?): ", done.stdout, re.MULTILINE))

    before = (tmp_path / "folds/lumps-demo/folds.csv").read_bytes()
    made("01_make_folds")
    assert (tmp_path / "folds/lumps-demo/folds.csv").read_bytes() == before
    made("02_localize")
    assert not [name for name in made("03_cache") if "shard" in name]
    networks = ("resnet", "byobnet")
    runs = ("resnet fold {}", "byobnet fold {}", "byobnet fold {} seed 1")
    assert made("04_train") == {f"train {run.format(fold)}" for run in runs for fold in others}
    other = [f"{name}/fold{fold}" for name in networks for fold in range(3)
             if not filecmp.cmp(*(place / f"weights/lumps-demo/{name}/fold{fold}.safetensors"
                                  for place in (trained, tmp_path)), shallow=False)]
    told = made("05_predict")
    assert other and {name for name in told if name.startswith("predict test")} == {
        f"predict test with {name.replace('/fold', ' fold ')}" for name in other}
    assert {name for name in told if name.startswith("predict ") and "test" not in name} == {
        f"predict {name} fold {fold}" for name in networks for fold in range(3)}  # with the score of the changed row
    made("07_stack")
    assert all(not made(script) for script in ("04_train", "05_predict", "07_stack"))


def test_the_sources_hold_the_module_of_every_loss(tmp_path):
    context = make_context(load("knee_age", demo=True), Options(out_dir=str(tmp_path)))
    write_sources(context, tmp_path / "part")
    assert (tmp_path / "part/src/radstack/nets/place_objectives.py").exists()
