"""A competition of one's own from a folder and a table: thirty layouts, twenty wrong inputs, one whole way to an answer."""

import importlib.util
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from dicom_files import make_dicom
from scripts import run_script
from sklearn.metrics import cohen_kappa_score

from radstack.commands.new_competition import new_competition
from radstack.commands.own import looking, recipes
from radstack.commands.own.looking import Wish
from radstack.commands.own.matching import Match
from radstack.commands.own.options import COMPETITIONS
from radstack.commands.own.recipes import models_of, small_networks
from radstack.commands.rehearse import beside
from radstack.core.errors import UserError
from radstack.images.own.source import LABELS_KIND, NUMBER_KIND, Source
from radstack.images.shards import shard_path, write_shard
from radstack.recipes.competition import Competition
from radstack.recipes.experiment import LITE0_FIRST, Sampling
from radstack.recipes.submission import Layout
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.scoring import named
from radstack.scoring.metrics import ClassGroup
from radstack.scoring.task import Metric, Task
from radstack.stack.columns import Columns, SeriesAverage
from radstack.stack.rows import Rows
from radstack.stages.cache import cache
from radstack.stages.folds import deal_folds, make_index
from radstack.stages.localize import localize
from radstack.stages.submit import submit_constant
from radstack.submission.forms import validate, write
from radstack.training.loader import epoch_order

COUNT = 36
"""Ids of a layout."""


def drawn(rng: np.random.Generator, value: float, bits: int = 8) -> np.ndarray:
    """A noisy picture of any size, brighter in the middle for a larger ``value`` (0 to 1)."""
    height, width = rng.integers(24, 48, 2)
    pixels = rng.normal(0.3, 0.1, (height, width))
    pixels[height // 3:2 * height // 3, width // 3:2 * width // 3] += 0.5 * value
    return (np.clip(pixels, 0, 1) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def put(path: Path, pixels: np.ndarray, **elements: object) -> None:
    """Write a picture in the kind of its ending; ``elements`` are those of a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii.gz", ".nrrd")):
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(np.stack([pixels] * 5).astype(np.int16))
        image.SetSpacing((1.0, 1.0, 5.0))
        sitk.WriteImage(image, str(path))
    elif path.suffix == ".dcm":
        make_dicom(path, pixels.astype(np.uint16), **elements)
    else:
        assert cv2.imwrite(str(path), pixels)


def read_back(place: Path, name: str, variant: str = "SMALL") -> Competition:
    """What the written module says, imported under a name of its own."""
    file = place / "mine" / name / "__init__.py"
    spec = importlib.util.spec_from_file_location(f"own_{uuid.uuid4().hex}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, variant)


def wish(place: Path, **more: object) -> Wish:
    """The options of a layout below ``place``: ``pictures`` and ``labels.csv``."""
    return Wish("dots", place / "pictures", place / "labels.csv", place / "mine", place, **more)


def through(place: Path) -> tuple[Context, pd.DataFrame]:
    """Stages 01 to 03 and a constant submission, which is checked; the context and the row table."""
    context = make_context(read_back(place, "dots"), Options(data_dir=str(place), out_dir=str(place), workers=1))
    make_index(context)
    deal_folds(context)
    localize(context)
    cache(context)
    submit_constant(context)
    return context, pd.read_parquet(context.paths.cache / "rows.parquet")


class Folder:
    """A folder and a table as chance has them."""

    def __init__(self, place: Path, seed: int) -> None:
        """Draw everything; ``options`` are what a person would type."""
        self.place, self.rng, self.options = place, np.random.default_rng(seed), {}
        self.kind = ("png", "jpg", "tif16", "dcm", "png16", "mixed", "volume", "series", "many", "order")[seed % 10]
        self.task = ("words", "zeros", "number", "classes", "labels", "ordinal")[seed % 6]
        self.separator = ",;\t"[seed // 2 % 3]
        self.rows = [self.row(number) for number in range(COUNT)]
        self.write()

    def row(self, number: int) -> dict[str, str]:
        """One row of the table, and its files."""
        value, rng = number % 3 / 2, self.rng
        comma = str.replace if self.separator == ";" else (lambda text, *_: text)
        row = {"words": {"finding": ("no", "yes")[number % 2]}, "zeros": {"finding": str(number % 2)},
               "number": {"age": comma(f"{value * 40 + rng.uniform(0, 9):.1f}", ".", ",")},
               "classes": {"stage": ("young", "middle", "old")[number % 3]}, "ordinal": {"grade": str(number % 3)},
               "labels": {"fluid": str(number % 2), "air": ("FALSE", "TRUE")[number % 3 == 0]}}[self.task]
        return {"id": self.draw(number, value), **row, "sex": "FM"[number % 2], "patient": f"p{number // 2:02d}"}

    def draw(self, number: int, value: float) -> str:
        """Write the pictures of one id; what the table calls it."""
        folder, name = self.place / "pictures", f"k{number:03d}"
        nested = folder / f"site{number % 4}" if self.kind in ("jpg", "dcm") else folder
        if self.kind == "many":
            for view in "ab":
                put(folder / f"{name}_{view}.png", drawn(self.rng, value))
        elif self.kind == "series":
            for place in range(3):
                put(folder / name / f"{place}.dcm", drawn(self.rng, value, 12), Modality="MR", PatientID=name,
                    ImagePositionPatient=[0, 0, 5.0 * place], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
        else:
            ending = {"png": "png", "jpg": "JPG", "tif16": "tif", "dcm": "dcm", "png16": "png", "order": "png",
                      "mixed": ("png", "jpg", "tif")[number % 3], "volume": ("nii.gz", "nrrd")[number % 2]}[self.kind]
            bits = 12 if self.kind in ("dcm", "volume") else 16 if self.kind.endswith("16") else 8
            modality = {"Modality": ("DX", "CT")[number % 2], "PatientID": f"p{number // 2:02d}"}
            put(nested / f"{name}.{ending}", drawn(self.rng, value, bits), **modality if ending == "dcm" else {})
        return name

    def write(self) -> None:
        """The table, and the options that it asks for."""
        table = pd.DataFrame(self.rows)
        self.options["target"] = {"number": ("age",), "classes": ("stage",), "ordinal": ("grade",),
                                  "labels": ("fluid", "air")}.get(self.task, ("finding",))
        if self.task == "ordinal":
            self.options["task"] = "ordinal"
        if self.kind == "order":
            table["slice"] = [str(number % 2) for number in range(COUNT)]
            self.options["order"] = "slice"
        if self.rng.random() < 0.5:
            self.options["columns"] = ("sex",)
        if self.rng.random() < 0.5:
            table["id"] = table["id"] + ".png" if self.kind in ("png", "png16", "order") else table["id"]
        if self.rng.random() < 0.4:  # pictures elsewhere, reached by links
            shutil.move(self.place / "pictures", self.place / "store")
            (self.place / "pictures").mkdir()
            (self.place / "pictures/linked").symlink_to(self.place / "store", target_is_directory=True)
        if self.rng.random() < 0.4:
            last = table.index >= COUNT - 8
            sample = pd.DataFrame({"id": table.loc[last, "id"], **dict.fromkeys(self.options["target"], "0")})
            sample.to_csv(self.place / "sample.csv", index=False)
            table.loc[last, list(self.options["target"])] = ""
            self.options["sample"] = self.place / "sample.csv"
        table.to_csv(self.place / "labels.csv", index=False, sep=self.separator)


@pytest.mark.parametrize("seed", range(30))
def test_a_layout_ends_in_a_submission(tmp_path, seed):
    layout = Folder(tmp_path, seed)
    plan = new_competition(wish(tmp_path, **layout.options), ())
    assert len(plan.text.splitlines()) <= 60 and max(map(len, plan.text.splitlines())) <= 125
    context, rows = through(tmp_path)
    submission = pd.read_csv(tmp_path / "submissions/dots-small/constant.csv")
    asked = pd.read_csv(tmp_path / "input/dots/sample_submission.csv", dtype=str)
    assert len(submission) == len(asked) and rows["id"].is_unique
    train, test = (set(rows.loc[rows["split"] == split, "group"]) for split in ("train", "test"))
    assert train and test and not train & test
    assert rows.loc[rows["split"] == "test", list(context.competition.targets)].isna().all().all()


def table_of(place: Path, **columns: object) -> pd.DataFrame:
    """Twenty-four PNG files and their table, which ``columns`` change: a value for all, or one a row; None takes it out."""
    rng = np.random.default_rng(0)
    for number in range(24):
        put(place / f"pictures/k{number:02d}.png", drawn(rng, number % 2))
    table = pd.DataFrame({"id": [f"k{number:02d}" for number in range(24)], "finding": ["no", "yes"] * 12,
                          "patient": [f"p{number // 2}" for number in range(24)]})
    for name, values in columns.items():
        table = table.drop(columns=name) if values is None else table.assign(**{name: values})
    table.to_csv(place / "labels.csv", index=False)
    return table


def write_raw(place: Path, text: str, coding: str = "utf-8") -> None:
    """The table as these characters."""
    (place / "labels.csv").write_bytes(text.encode(coding))


def sample_of(place: Path, **columns: object) -> Path:
    """A sample submission with these columns."""
    pd.DataFrame(columns).to_csv(place / "sample.csv", index=False)
    return place / "sample.csv"


def mixed_endings(place: Path) -> None:
    """Half of the ids with an ending, half without."""
    table_of(place, id=[f"k{number:02d}{'.png' * (number % 2)}" for number in range(24)])


def copied_names(place: Path) -> None:
    """Two files of one name in two folders."""
    table_of(place)
    shutil.copytree(place / "pictures", place / "pictures/again")


def only(place: Path, count: int) -> None:
    """All but ``count`` pictures deleted."""
    table_of(place)
    for file in sorted((place / "pictures").glob("*.png"))[count:]:
        file.unlink()


def a_zip(place: Path) -> None:
    """The pictures packed."""
    table_of(place)
    shutil.make_archive(str(place / "packed"), "zip", place / "pictures")
    shutil.rmtree(place / "pictures")
    (place / "packed.zip").rename(place / "pictures")


def dead_links(place: Path) -> None:
    """Links to pictures that are not there."""
    only(place, 0)
    for number in range(24):
        (place / f"pictures/k{number:02d}.png").symlink_to(place / "nowhere" / str(number))




def seen_as(**columns: object) -> Callable[[Path], object]:
    """:func:`table_of` with these columns."""
    return partial(table_of, **columns)


def text(words: str, coding: str = "utf-8") -> Callable[[Path], object]:
    """Pictures, and these characters as their table."""
    return lambda place: (table_of(place), write_raw(place, words, coding))


NAMES = [f"k{number:02d}" for number in range(24)]
ANSWERED = ["no", "yes"] * 11 + ["", ""]
"""Labels of all but the last two."""
WRONG: dict[str, tuple[Callable[[Path], object], dict[str, object], str]] = {
    "a column that is missing": (table_of, {"target": ("tumor",)}, "no such column"),
    "an input that is missing": (table_of, {"columns": ("age",)}, "no such column"),
    "an empty folder": (partial(only, count=0), {}, "holds no picture"),
    "a folder of one picture": (partial(only, count=1), {}, "names the pictures"),
    "no folder": (lambda place: write_raw(place, "id,finding\n1,0\n"), {}, "is not there"),
    "pictures in a zip": (a_zip, {}, "unpack it"),
    "dead links": (dead_links, {}, "holds no picture"),
    "ids with and without ending": (mixed_endings, {}, "have no picture"),
    "an id twice with two labels": (seen_as(id=["k01", *NAMES[1:]]), {}, "rows that differ"),
    "two files of one name": (copied_names, {}, "both answer to"),
    "one class": (seen_as(finding="no"), {}, "nothing to learn"),
    "no label at all": (seen_as(finding=""), {}, "have a label"),
    "forty classes of one": (seen_as(finding=[f"c{number}" for number in range(24)]), {}, "fewer than 3"),
    "labels for test": (table_of, {"sample": {"id": ["k00"], "finding": ["0"]}}, "have a label"),
    "a group in both parts": (seen_as(finding=ANSWERED, patient=["a", "a", *["b", "c"] * 10, "a", "a"]),
                              {"sample": {"id": ["k23"], "finding": ["0"]}, "group": "patient"}, "in train and in test"),
    "a table in cp1252": (text("id,finding\nk\u00e4se,1\n", "cp1252"), {}, "UTF-8"),
    "a line too short": (text("id;finding\nk00;0\nk01\n"), {}, "line 3"),
    "an empty table": (text("id,finding\n"), {}, "no row"),
    "two columns that may be predicted": (seen_as(other=["a", "b", "c"] * 8), {}, "type --target"),
    "two columns that may be the id": (seen_as(twin=NAMES[::-1]), {"target": ("finding",)}, "could both name"),
    "whole numbers of no clear kind": (seen_as(finding=["0", "1", "2"] * 8), {}, "type --task"),
    "several numbers": (seen_as(age=[f"{number}.5" for number in range(24)], months=[*map(str, range(24))]),
                        {"target": ("age", "months"), "task": "number"}, "make a competition of each"),
    "a sample of another task": (seen_as(finding=ANSWERED), {"sample": {"id": NAMES[22:], "a": "0", "b": "0"},
                                                             "target": ("finding",)}, "asks for"),
    "a metric of another task": (table_of, {"metric": "rmse"}, "metric"),
    "a name that cannot be one": (table_of, {"name": "My Competition"}, "cannot name"),
    "a name that is taken": (table_of, {"name": "ich"}, "take another name"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_input_is_one_line_and_nothing_is_written(tmp_path, what, capsys):
    make, options, words = WRONG[what]
    make(tmp_path)
    options = dict(options)
    if isinstance(options.get("sample"), dict):
        options["sample"] = sample_of(tmp_path, **options["sample"])
    before = {path.name for path in tmp_path.iterdir()}
    wished = wish(tmp_path, **{name: value for name, value in options.items() if name != "name"})
    if "name" in options:
        wished = replace(wished, name=options["name"])
    with pytest.raises(UserError, match=words) as raised:
        new_competition(wished, ("ich",))
    assert "\n" not in str(raised.value) and {path.name for path in tmp_path.iterdir()} == before


def test_a_dry_run_prints_the_file_and_writes_nothing_and_nothing_is_overwritten(tmp_path, capsys):
    table_of(tmp_path)
    plan = new_competition(wish(tmp_path), (), dry_run=True)
    printed = capsys.readouterr().out
    assert plan.text in printed and "12 by column patient" in printed and len(plan.lines) <= 24
    assert not (tmp_path / "mine").exists() and not (tmp_path / "input").exists()
    new_competition(wish(tmp_path), ())
    with pytest.raises(UserError, match="nothing is overwritten"):
        new_competition(wish(tmp_path), ())


def test_a_file_that_the_table_names_under_two_ids_is_the_picture_of_both(tmp_path):
    files = [f"k{number % 22:02d}.png" for number in range(24)]
    table_of(tmp_path, id=[f"n{number:02d}" for number in range(24)], image=files,
             patient=[f"p{number % 22}" for number in range(24)])
    new_competition(wish(tmp_path, id="id", file="image", target=("finding",)), ())
    rows = through(tmp_path)[1].set_index("path")
    assert rows["crc"].nunique() == 22 and rows.loc["pictures/k00.png", "crc"].nunique() == 1
    assert len(rows.loc["pictures/k00.png"]) == 2 and len(rows) == 24


def test_near_duplicates_stay_together_where_no_column_names_the_patient(tmp_path):
    table_of(tmp_path, patient=None)
    for number in range(0, 24, 2):  # each picture once more, a little brighter
        pixels = cv2.imread(str(tmp_path / f"pictures/k{number:02d}.png"), cv2.IMREAD_UNCHANGED)
        brighter = np.clip(pixels.astype(int) + 3, 0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"pictures/k{number + 1:02d}.png"), brighter)
    plan = new_competition(wish(tmp_path), (), dry_run=True)
    rows = pd.concat([plan.train[["id", "group"]], plan.test[["id", "group"]]])
    assert rows["group"].nunique() == 12 and (rows.groupby("group")["id"].nunique() == 2).all()
    assert any("no column says whose" in line for line in plan.lines)


def test_it_writes_where_the_stages_look_and_says_what_comes_next(tmp_path, capsys):
    assert (COMPETITIONS / "ich" / "__init__.py").is_file()
    table_of(tmp_path)
    asked = wish(tmp_path)
    new_competition(asked, ())
    said = capsys.readouterr().out
    assert f"wrote       {asked.folder / '__init__.py'}" in said and f"bash run_all.sh {asked.name} --recipes small" in said
    assert f"apply.py {asked.name} --recipes small {asked.pictures} answers.csv --labels" in said


STAGES = [path.stem for path in sorted((Path(__file__).parents[1] / "src").glob("0[0-9]_*.py"))]


def from_nothing(folder: Path, *options: object) -> tuple[Callable[..., None], list[object]]:
    """A competition on the pictures and the table in ``folder``, through all stages; each network learns for two epochs.

    Gives a call of any script, which must succeed, and the options that name the recipes and folders.
    """
    place = {"RADSTACK_COMPETITIONS": str(folder / "mine"), "TORCH_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    folders = ["--recipes", "small", "--data-dir", folder, "--out-dir", folder]
    (folder / "mine").mkdir()

    def call(script: str, *given: object) -> None:
        done = run_script(script, "dots", *given, **place)
        assert done.returncode == 0, done.stdout + done.stderr

    call("new_competition", "--pictures", folder / "pictures", "--labels", folder / "labels.csv", "--target", "finding",
         "--data-dir", folder, *options)
    module = folder / "mine/dots/__init__.py"
    briefly = "[change(one, train__epochs=2) for one in NETWORKS])"
    module.write_text(module.read_text("utf-8").replace("NETWORKS)", briefly), "utf-8")
    for script in STAGES:
        call(script, "--all-stages", "--workers", "1", *folders)
    return call, folders


def test_few_pictures_get_several_networks_and_slices_in_order_a_few_epochs():
    heads = Source(LABELS_KIND, {"any": ("0", "1")}, order="slice")
    few, probe = small_networks(heads, 128, 256, rows=2000, groups=62, pretrained=True)
    many, = small_networks(heads, 128, 256, rows=200_000, groups=5000, pretrained=True)
    assert (few.train.seeds, few.train.epochs, few.sampling.per_series) == (3, 6, 8)
    assert (many.train.seeds, many.train.epochs) == (1, 6)
    assert probe.name == "frozen" and probe.probe and probe.view.size == (224, 224)
    final = next(one for one in models_of(heads, (few, probe)).stackers if one.name == "final")
    assert {"lite0_smooth", "frozen_smooth", "bilstm", "metadata"} == set(final.members)
    alone, = small_networks(Source(NUMBER_KIND, {"age": ("100", "40")}), 224, 256, rows=600, groups=600, pretrained=True)
    assert (alone.train.seeds, alone.train.epochs, alone.backbone.frozen) == (1, 20, LITE0_FIRST)


@pytest.mark.parametrize("count, shape", [(1, (8, 8)), (3, (8, 24)), (40, (32, 48))])
def test_a_case_shows_its_pictures_in_rows_evenly_over_the_series(tmp_path, monkeypatch, count, shape):
    paths, drawn = SimpleNamespace(cache=tmp_path), []
    pictures = [lambda number=one: np.full((8, 8), number, np.uint8) for one in range(count)]
    write_shard(shard_path(tmp_path, 0), pictures, (8, 8), "uint8")
    monkeypatch.setattr("radstack.report.images.data_uri", lambda picture: drawn.append(picture) or "")
    case = SimpleNamespace(rows=pd.DataFrame({"shard": 0, "slot": np.arange(count)}))
    block, = recipes.view(case, None, paths)
    assert drawn[0].shape == shape and drawn[0].max() == count - 1 and block.wide == (count > 1)
    assert block.caption.startswith(f"{min(count, 24)} of {count} pictures")


@pytest.mark.slow
def test_pictures_in_order_lead_to_a_sequence_model_and_a_submission(tmp_path):
    table_of(tmp_path, slice=[0, 1] * 12)
    from_nothing(tmp_path, "--order", "slice")
    scores = pd.read_csv(tmp_path / "reports/dots-small/scores.csv")
    assert {"position", "bilstm", "final"} <= set(scores["model"])
    assert (tmp_path / "submissions/dots-small/final.csv").is_file()


@pytest.mark.slow
def test_two_commands_lead_from_a_folder_to_a_submission_an_answer_and_a_bundle(tmp_path):
    table_of(tmp_path, sex=["F", "M", "M"] * 8)
    call, folders = from_nothing(tmp_path, "--columns", "sex")
    submission = pd.read_csv(tmp_path / "submissions/dots-small/final.csv")
    sample = pd.read_csv(tmp_path / "input/dots/sample_submission.csv")
    assert list(submission) == ["id", "finding"] and submission["id"].tolist() == sample["id"].tolist()
    scores = pd.read_csv(tmp_path / "reports/dots-small/scores.csv")
    assert {"constant", "metadata", "resnet", "final"} <= set(scores["model"]) and scores["roc_auc"].notna().any()
    test = tmp_path / "later"
    test.mkdir()
    for name in sample["id"]:
        shutil.copy(tmp_path / f"pictures/{name}.png", test)
    pd.read_csv(tmp_path / "input/dots/test.csv", dtype=str)[["id", "sex"]].to_csv(tmp_path / "sexes.csv", index=False)
    call("apply", test, tmp_path / "answers.csv", "--columns", tmp_path / "sexes.csv", *folders)
    answers = pd.read_csv(tmp_path / "answers.csv").set_index("id")["finding"]
    np.testing.assert_allclose(answers[submission["id"]], submission["finding"], atol=1e-6)
    call("bundle", *folders)
    assert (tmp_path / "bundles/dots-small/src/competitions/dots/__init__.py").exists()


def rows_of(truth: np.ndarray, metric: Metric, targets: tuple[str, ...], **columns: object) -> Rows:
    """Rows of one member that knows nothing, two pictures a series, with further columns of the index."""
    count = len(truth)
    table = pd.DataFrame({"id": [str(row) for row in range(count)], "group": [str(row // 2) for row in range(count)],
                          "series": [str(row // 2) for row in range(count)], "position": np.arange(count) % 2, **columns})
    shares = np.full((1, *truth.shape), 1 / truth.shape[1] if metric.groups else 0.5, np.float32)
    return Rows(Task(targets, metric), table.assign(**dict(zip(targets, truth.T))), np.zeros(count, int), shares)


def test_the_model_without_pixels_finds_what_a_column_says_in_every_kind_of_task():
    x = np.repeat(np.linspace(-1, 1, 60), 2)
    labels = rows_of((x > 0.2)[:, None].astype(float), Metric("weighted log loss", (1,)), ("sick",), size=x, flat=1.0)
    numbers = rows_of((3 * x + 7)[:, None], Metric("mean absolute error", (1,)), ("age",), size=x, flat=1.0)
    grades = ClassGroup("grade", ("a", "b", "c"))
    place = np.digitize(x, [-0.3, 0.3])
    error = Metric("classification error", (1,), groups=(grades,))
    classes = rows_of(np.eye(3)[place], error, ("a", "b", "c"), size=x, flat=1.0)
    method = Columns(columns=("size", "flat"), strength=0.01)
    said = [method.predict(rows, method.fit(rows).state) for rows in (labels, numbers, classes)]
    assert ((said[0][:, 0] > 0.5) == (x > 0.2)).mean() > 0.97 and np.abs(said[1][:, 0] - (3 * x + 7)).max() < 0.1
    assert (said[2].argmax(axis=1) == place).mean() > 0.9 and np.allclose(said[2].sum(axis=1), 1, atol=1e-6)
    assert Columns(columns=("flat",)).fit(labels).notes["features"] == 3  # the place in the series and its powers


@pytest.mark.parametrize(("known", "share"), [((), 1 / 3), ((0,), 1.0), ((2,), 1.0), ((0, 2), 0.5)])
def test_the_model_without_pixels_knows_groups_of_few_classes_or_none(known, share):
    groups = ClassGroup("grade", ("a", "b", "c")), ClassGroup("side", ("l", "r"))
    truth = np.hstack([np.full((8, 3), np.nan), np.eye(2)[np.arange(8) % 2]])
    if known:
        truth[:, :3] = np.eye(3)[np.resize(known, 8)]
    rows = rows_of(truth, Metric("classification error", (1, 1), groups=groups), tuple("abclr"))
    method = Columns(strength=1e6)  # the constant alone
    said = method.predict(rows, method.fit(rows).state)
    assert said[:, list(known or range(3))] == pytest.approx(share, abs=1e-4)
    assert said[:, :3].sum(axis=1) == pytest.approx(1) and said[:, 3:].sum(axis=1) == pytest.approx(1)


def test_all_pictures_of_an_id_get_one_answer():
    rows = rows_of(np.zeros((6, 1)), Metric("mean absolute error", (1,)), ("age",))
    given = Rows(rows.task, rows.table, rows.fold, np.array([[[1], [3], [5], [5], [0], [8]]], np.float32))
    assert SeriesAverage().predict(given, None)[:, 0].tolist() == [2, 2, 5, 5, 4, 4]


def test_scores_by_name_are_those_of_scikit_learn_and_one_of_another_task_is_refused():
    truth, said = np.array([[0], [0], [1], [1], [1]]), np.array([[0.1], [0.6], [0.4], [0.8], [0.9]])
    assert named.score("auc", truth, said, ()) == pytest.approx(5 / 6) and named.score("accuracy", truth, said, ()) == 0.6
    assert named.score("f1", truth, said, ()) == pytest.approx(2 / 3)
    assert named.score("rmse", truth * 3.0, truth * 3.0 + 2, ()) == pytest.approx(2)
    grades, calls = np.eye(3)[[0, 1, 2, 2]], np.eye(3)[[0, 1, 2, 0]]
    kappa = cohen_kappa_score([0, 1, 2, 2], [0, 1, 2, 0], weights="quadratic")
    assert named.score("kappa", grades, calls, (3,)) == pytest.approx(kappa)
    steps, far = np.array([0, 0, 3, 1]), np.array([0, 3, 3, 1])  # class 2 does not occur
    kappa = cohen_kappa_score(steps, far, weights="quadratic", labels=np.arange(4))
    assert named.score("kappa", np.eye(4)[steps], np.eye(4)[far], (4,)) == pytest.approx(kappa)
    both, half = np.hstack([grades, grades]), np.hstack([calls, np.full((4, 3), np.nan)])  # a group that is not answered
    assert all(np.isnan(named.score(name, both, half, (3, 3))) for name in ("kappa", "accuracy", "auc"))
    assert np.isnan(named.score("auc", np.ones((3, 1)), np.full((3, 1), 0.5), ()))
    value, low, high = named.with_interval("auc", truth, said, (), pd.Series(list("abcde")))
    assert low <= value <= high and named.direction("rmse") == "lower is better"
    for name, predicts, words in (("auk", "numbers", "auc|did you mean"), ("rmse", "classes", "does not score")):
        with pytest.raises(UserError, match=words):
            named.known(name, predicts)


def test_a_row_of_double_weight_is_visited_twice_as_often():
    rows = pd.DataFrame({"weight": [1.0, 2.0, 0.5, 0.5], "series": list("abcd")})
    sampling = Sampling(weight="weight")
    visits = np.concatenate([epoch_order(sampling, np.arange(4), rows, (0, 0, epoch)) for epoch in range(400)])
    assert np.allclose(np.bincount(visits) / 400, [1, 2, 0.5, 0.5], atol=0.1)


def test_a_sample_that_asks_for_words_gets_the_likeliest_class_and_nothing_else(tmp_path):
    layout = Layout("id", ("s_a", "s_b"), 0, 1, form="classes", calls=(ClassGroup("s", ("a", "b")),), words_only=True)
    pd.DataFrame({"id": ["1", "2"], "s": ""}).to_csv(tmp_path / "sample.csv", index=False)
    write(tmp_path / "out.csv", pd.Series(["1", "2"]), np.array([[0.7, 0.3], [0.2, 0.8]]), layout)
    assert (tmp_path / "out.csv").read_text().split() == ["id,s", "1,a", "2,b"]
    assert validate(tmp_path / "out.csv", tmp_path / "sample.csv", layout) == 2
    (tmp_path / "out.csv").write_text("id,s\n1,a\n2,c\n")
    with pytest.raises(UserError, match="expected one of a, b"):
        validate(tmp_path / "out.csv", tmp_path / "sample.csv", layout)


def test_pictures_elsewhere_are_ordered_by_their_names_and_a_sample_may_name_whole_paths(tmp_path):
    table = table_of(tmp_path, finding=ANSWERED, slice=[str(number % 2 + 1) for number in range(24)], patient=None)
    files = [f"pictures/p{number // 2:02d}/{number % 2}.png" for number in range(24)]
    for name, file in zip(table["id"], files):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / f"pictures/{name}.png").rename(tmp_path / file)
    table.assign(id=files, patient=[file[9:12] for file in files]).to_csv(tmp_path / "labels.csv", index=False)
    sample = sample_of(tmp_path, id=files[22:], finding="0")
    plan = new_competition(wish(tmp_path, order="slice", sample=sample), ())
    assert plan.source.match == "path" and plan.test["file"].tolist() == files[22:] and len(plan.train) == 22
    index, _ = plan.source.index_new(tmp_path / "pictures", 1, tmp_path / "parts", pd.DataFrame())
    assert index.groupby("series")["position"].agg(list).tolist() == [[0, 1]] * 12
    assert index["path"].str.endswith("0.png").eq(index["position"] == 0).all()


def test_a_rehearsal_gives_the_columns_that_the_user_gave(tmp_path):
    table_of(tmp_path, finding=ANSWERED, slice=[str(number % 2 + 7) for number in range(24)])
    new_competition(wish(tmp_path, order="slice", sample=sample_of(tmp_path, id=NAMES[22:], finding="0")), ())
    context, _ = through(tmp_path)
    index = pd.read_parquet(context.paths.folds / "index.parquet")
    given = pd.read_csv(beside(context, index, context.paths.input, tmp_path), dtype=str)
    again, _ = context.competition.data.index_new(tmp_path / "pictures", 1, tmp_path / "parts", given)
    assert given["slice"].tolist() == ["7", "8"]
    assert again.set_index("id")["position"][NAMES[22:]].tolist() == index.set_index("id")["position"][NAMES[22:]].tolist()


def test_a_volume_among_test_pictures_is_refused_where_pictures_have_an_order(tmp_path):
    files = pd.DataFrame({"path": ["v.nii"], "patient": "", "slices": 3})
    source = Source(LABELS_KIND, {"finding": ("no", "yes")}, order="slice")
    asked = pd.DataFrame({"id": ["v"], "finding": ["0"]})
    with pytest.raises(UserError, match="pictures/v.nii is a volume, and --order slice needs one picture a row"):
        looking.tests_of(wish(tmp_path, order="slice"), source, asked.iloc[:0], asked, {"v"}, files, Match("id", "stem", {}))


def test_a_table_beside_pictures_elsewhere_is_read_by_the_column_of_the_labels(tmp_path, capsys):
    table = table_of(tmp_path, finding=ANSWERED, age=[str(40 + number) for number in range(24)])
    table.rename(columns={"id": "image"}).to_csv(tmp_path / "labels.csv", index=False)
    mine = wish(tmp_path, columns=("age",), id="image")
    plan = new_competition(mine, ())
    assert f"--columns {mine.input / 'test.csv'}" in capsys.readouterr().out
    given = {column: pd.DataFrame({column: [table["id"][0]], "age": ["80"]}) for column in ("image", "id")}
    for table_given in given.values():
        index, _ = plan.source.index_new(tmp_path / "pictures", 1, tmp_path / "parts", table_given)
        assert index.set_index("id").loc[table["id"][0], "age"] > 2 and (index["age"] != 0).sum() == 1
    for wrong in (pd.DataFrame({"name": ["k00"], "age": ["80"]}), pd.DataFrame({"image": ["k00"], "years": ["80"]})):
        with pytest.raises(UserError, match="give one with image,age"):
            plan.source.index_new(tmp_path / "pictures", 1, tmp_path / "parts", wrong)
