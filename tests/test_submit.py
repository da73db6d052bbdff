"""The submission writer and a validator that names the first wrong line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radstack.core.errors import UserError
from radstack.recipes.submission import Layout
from radstack.scoring.metrics import ClassGroup
from radstack.stages.apply import _pictures
from radstack.submission.forms import ending_of, target_codes, validate, write, write_constant, write_predictions

TARGETS = ("epidural", "subdural", "any")


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample_submission.csv"
    rows = [f"ID_{picture}_{target},0.5" for picture in ("00b", "00a", "00c") for target in TARGETS]
    path.write_text("\n".join(["ID,Label", *rows]) + "\n")
    return path


def predictions(*ids: str) -> pd.DataFrame:
    values = np.arange(1, 3 * len(ids) + 1, dtype=np.float32).reshape(-1, 3) / 100
    return pd.DataFrame(values, columns=list(TARGETS)).assign(id=list(ids))


def edited(sample: Path, tmp_path: Path, old: str, new: str) -> Path:
    path = tmp_path / "edited.csv"
    path.write_text(sample.read_text().replace(old, new))
    return path


def test_rows_are_joined_by_id_in_the_sample_order(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    assert write_predictions(path, predictions("ID_00a", "ID_00b", "ID_00c"), sample, TARGETS).empty
    table = pd.read_csv(path)
    assert table["ID"].tolist() == pd.read_csv(sample)["ID"].tolist()
    assert table["Label"].tolist() == [0.04, 0.05, 0.06, 0.01, 0.02, 0.03, 0.07, 0.08, 0.09]
    assert validate(path, sample) == 9


def test_unpredicted_rows_get_their_targets_minimum_and_are_listed(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    filled = write_predictions(path, predictions("ID_00b", "ID_00c"), sample, TARGETS)
    assert filled["id"].tolist() == ["ID_00a_epidural", "ID_00a_subdural", "ID_00a_any"]
    assert filled["value"].tolist() == pytest.approx([0.01, 0.02, 0.03])
    assert pd.read_csv(path)["Label"].tolist() == [0.01, 0.02, 0.03, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    assert validate(path, sample) == 9


def test_values_are_clipped_before_writing(sample: Path, tmp_path: Path) -> None:
    table = predictions("ID_00a", "ID_00b", "ID_00c")
    table.loc[0, ["epidural", "subdural"]] = [0.0, 1.0]
    write_predictions(tmp_path / "out.csv", table, sample, TARGETS)
    assert pd.read_csv(tmp_path / "out.csv")["Label"].iloc[3:5].tolist() == [1e-6, 1 - 1e-6]
    validate(tmp_path / "out.csv", sample)


def test_predictions_that_cannot_be_submitted(sample: Path, tmp_path: Path) -> None:
    out, good = tmp_path / "out.csv", predictions("ID_00a", "ID_00b", "ID_00c")
    with pytest.raises(UserError, match="ID_zzz_epidural is predicted but not in the sample"):
        write_predictions(out, predictions("ID_00a", "ID_zzz"), sample, TARGETS)
    with pytest.raises(UserError, match="ID_00a is predicted twice"):
        write_predictions(out, predictions("ID_00a", "ID_00a"), sample, TARGETS)
    with pytest.raises(UserError, match="no test predictions"):
        write_predictions(out, good.iloc[:0], sample, TARGETS)
    with pytest.raises(UserError, match="ID_00a_subdural is not finite"):
        write_predictions(out, good.assign(subdural=[np.nan, 0.1, 0.2]), sample, TARGETS)
    with pytest.raises(UserError, match="ID_00b_any, which ends in none"):
        write_predictions(out, good, sample, TARGETS[:2])
    assert not out.exists()


def test_constant_submission(sample: Path, tmp_path: Path) -> None:
    write_constant(tmp_path / "out.csv", sample, {"any": 0.14, "epidural": 0.004, "subdural": 0.06})
    assert pd.read_csv(tmp_path / "out.csv")["Label"].tolist() == [0.004, 0.06, 0.14] * 3


def test_the_sample_itself_in_any_order_is_valid(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "shuffled.csv"
    pd.read_csv(sample).sample(frac=1, random_state=0).to_csv(path, index=False)
    assert validate(sample, sample) == validate(path, sample) == 9


@pytest.mark.parametrize(("old", "new", "message"), [
    ("ID,Label", "Id,Label", r"line 1: header is Id,Label; expected ID,Label"),
    ("ID_00a_any,", "ID_00x_any,", r"line 7, id ID_00x_any: is not in the sample file"),
    ("ID_00a_any,", "ID_00a_epidural,", r"line 7, id ID_00a_epidural: occurs for the second time"),
    ("ID_00a_epidural,0.5", "ID_00a_epidural,nan", r"line 5, id ID_00a_epidural: Label is 'nan'; expected a finite"),
    ("ID_00a_epidural,0.5", "ID_00a_epidural,inf", r"line 5, id ID_00a_epidural: Label is 'inf'"),
    ("ID_00a_epidural,0.5", "ID_00a_epidural,", r"line 5, id ID_00a_epidural: Label is ''"),
    ("ID_00a_epidural,0.5", "ID_00a_epidural", r"line 5, id ID_00a_epidural: Label is"),
    ("ID_00a_epidural,0.5", "ID_00a_epidural,0,5", r"line 5.*Expected 2 fields|Expected 2 fields in line 5"),
    ("ID_00c_any,0.5", "ID_00c_any,1.2", r"line 10, id ID_00c_any: Label is 1.2; expected a number from 1e-06"),
    ("ID_00c_any,0.5", "ID_00c_any,0", r"line 10, id ID_00c_any: Label is 0; expected"),
    ("ID_00a_epidural,0.5\n", "", r"lacks 1 of 9 ids, first ID_00a_epidural \(line 5 of sample_submission.csv\)"),
    ("ID_00a_epidural,0.5\n", "\nID_00a_epidural,0,5\n", r"line 6.*Expected 2 fields|Expected 2 fields in line 6"),
    ("ID_00a_epidural,0.5\n", "\nID_00a_epidural,0\n", r"line 6, id ID_00a_epidural: Label is 0"),
    ("ID_00a_epidural,0.5\n", ",0.5\n", r"line 5, id : is not in the sample file"),
    (",0.5", ",0.5,0.5", r"not a readable CSV|header"),
])
def test_the_first_wrong_line_is_named(sample: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        validate(edited(sample, tmp_path, old, new), sample)
    assert "\n" not in str(caught.value)


def test_blank_lines_are_passed_over(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "blank.csv"
    path.write_text(sample.read_text().replace("ID_00a_epidural", "\nID_00a_epidural") + "\n")
    assert validate(path, sample) == 9


def test_what_breaks_lines_elsewhere_moves_no_blank_line(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_text(sample.read_text().replace("ID_00a_epidural", "\n\x0cID_00a_epidural"))
    with pytest.raises(UserError, match="feed.csv line 6, id "):
        validate(path, sample)


def test_a_line_of_commas_alone_is_no_blank_one(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "commas.csv"
    path.write_text(sample.read_text().replace("ID_00a_epidural", "\n,\nID_00a_epidural"))
    with pytest.raises(UserError, match="commas.csv line 6, id : is not in the sample file"):
        validate(path, sample)


def test_classes_of_each_group_of_the_metric_sum_to_one(tmp_path: Path) -> None:
    groups, sample, out = (ClassGroup("s", ("a", "b")), ClassGroup("t", ("c", "d"))), tmp_path / "s.csv", tmp_path / "o.csv"
    layout = Layout("id", tuple("abcd"), 0, 1, form="classes")
    sample.write_text("id\n1\n2\n")
    out.write_text("id,a,b,c,d\n1,.5,.5,.2,.8\n2,.9,.1,.3,.8\n")
    with pytest.raises(UserError, match=r"line 3, id 2: the values of t sum to 1\.1; expected 1"):
        validate(out, sample, layout, groups)
    out.write_text(out.read_text().replace(".3,.8", ".3,.7"))
    assert validate(out, sample, layout, groups) == validate(out, sample, replace(layout, form="wide"), groups) == 2


def test_of_several_faults_the_earliest_line_is_named(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "edited.csv"
    path.write_text(sample.read_text().replace("ID_00c_any,0.5", "ID_00q_any,0.5").replace("ID_00a_any,0.5", "ID_00a_any,7"))
    with pytest.raises(UserError, match=r"line 7, id ID_00a_any: Label is 7"):
        validate(path, sample)


def test_missing_and_unreadable_files(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        validate(tmp_path / "none.csv", sample)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match="not a readable CSV"):
        validate(tmp_path / "empty.csv", sample)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00ID")
    with pytest.raises(UserError, match="not a readable CSV|header"):
        validate(tmp_path / "binary.csv", sample)


# One row a picture

MONTHS = Layout("id", ("boneage",), 0, 240, sample_ids=("Case ID",), form="wide")


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    path = tmp_path / "test_cases.csv"
    path.write_text("Case ID,Sex\n4361,M\n4360,F\n4362,M\n4363,F\n")
    return path


def months(**values: float) -> pd.DataFrame:
    """Predictions from ``id4360=100.0`` and so on."""
    return pd.DataFrame({"id": [name[2:] for name in values], "boneage": np.array(list(values.values()), np.float32)})


def test_wide_rows_are_joined_by_id_in_the_sample_order_and_within_range(cases: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "out.csv", months(id4360=133.25, id4363=250, id4361=12.5, id4362=-3)
    filled = write_predictions(out, table, cases, ("boneage",), MONTHS)
    assert out.read_text() == "id,boneage\n4361,12.5\n4360,133.25\n4362,0.0\n4363,240.0\n"
    assert filled.empty and list(filled.columns) == ["id", "boneage"] and validate(out, cases, MONTHS) == 4


def test_wide_rows_without_a_prediction_get_the_median_and_are_listed(cases: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    filled = write_predictions(out, months(id4360=10, id4363=100, id4361=40), cases, ("boneage",), MONTHS)
    assert filled.to_dict("list") == {"id": ["4362"], "boneage": [40]}
    assert pd.read_csv(out)["boneage"].tolist() == [40, 10, 40, 100] and validate(out, cases, MONTHS) == 4


def test_several_numbers_a_picture(tmp_path: Path) -> None:
    layout, sample, out = Layout("id", ("Length", "Width"), 0, 99, form="wide"), tmp_path / "s.csv", tmp_path / "out.csv"
    sample.write_text("id\nb\na\n")
    write_predictions(out, pd.DataFrame({"id": ["a", "b"], "x": [1.0, 2], "y": [3.0, 4]}), sample, ("x", "y"), layout)
    assert out.read_text() == "id,Length,Width\nb,2.0,4.0\na,1.0,3.0\n"
    write_constant(out, sample, {"x": 5, "y": 6}, layout)
    assert out.read_text() == "id,Length,Width\nb,5.0,6.0\na,5.0,6.0\n"


def test_wide_predictions_that_cannot_be_submitted(cases: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    for table, message in ((months(id4360=1, id9=2), "9 is predicted but not in the sample"),
                           (pd.concat([months(id4360=1)] * 2), "4360 is predicted twice"),
                           (months(id4360=1).iloc[:0], "no test predictions"),
                           (months(id4361=1, id4360=float("inf")), "4360 is not finite")):
        with pytest.raises(UserError, match=message):
            write_predictions(out, table, cases, ("boneage",), MONTHS)
    with pytest.raises(UserError, match="no column id; is it the organizer's list"):
        write_predictions(out, months(id4360=1), cases, ("boneage",), Layout("id", ("boneage",), 0, 240, form="wide"))
    with pytest.raises(UserError, match="no form of submission 'wid'; did you mean 'wide'"):
        write_predictions(out, months(id4360=1), cases, ("boneage",), Layout("id", ("boneage",), form="wid"))
    assert not out.exists()


@pytest.mark.parametrize(("old", "new", "message"), [
    ("id,boneage", "Case ID,boneage", "line 1: header is Case ID,boneage; expected id,boneage"),
    ("4360,96", "4360,241", "line 3, id 4360: boneage is 241; expected a number from 0 to 240"),
    ("4360,96", "4360,-1", "line 3, id 4360: boneage is -1; expected a number from 0 to 240"),
    ("4360,96", "4360,eight years", "line 3, id 4360: boneage is 'eight years'; expected a finite number"),
    ("4360,96", "4360,", "line 3, id 4360: boneage is ''; expected a finite number"),
    ("4360,96", "4361,96", "line 3, id 4361: occurs for the second time"),
    ("4360,96", "1377,96", "line 3, id 1377: is not in the sample file"),
    ("4362,96\n", "", r"lacks 1 of 4 ids, first 4362 \(line 4 of test_cases.csv\)"),
])
def test_the_first_wrong_line_of_a_wide_file_is_named(cases: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    out = tmp_path / "constant.csv"
    write_constant(out, cases, {"boneage": 96}, MONTHS)
    out.write_text(out.read_text().replace(".0", "").replace(old, new))
    with pytest.raises(UserError, match=message):
        validate(out, cases, MONTHS)


def test_a_wide_layout_of_another_competition(tmp_path: Path) -> None:
    """One row a picture, months within 0..240: the generic layer alone."""
    layout, sample, out = Layout("Case ID", ("Age",), 0, 240), tmp_path / "sample.csv", tmp_path / "out.csv"
    sample.write_text("Case ID,Age\n4361,100\n4360,100\n")
    write(out, pd.Series(["4361", "4360"]), np.array([133.25, 250]), layout)
    assert out.read_text() == "Case ID,Age\n4361,133.25\n4360,240.0\n"
    assert validate(out, sample, layout) == 2
    out.write_text("Case ID,Age\n4361,133.25\n4360,241\n")
    with pytest.raises(UserError, match=r"line 3, id 4360: Age is 241; expected a number from 0 to 240"):
        validate(out, sample, layout)


def test_a_full_size_file(tmp_path: Path) -> None:
    targets = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
    pictures = pd.Series([f"ID_{number:09x}" for number in range(121_232)])
    sample = tmp_path / "sample.csv"
    names = pd.concat([pictures + f"_{target}" for target in targets], axis=1).to_numpy().reshape(-1)
    pd.DataFrame({"ID": names, "Label": 0.5}).to_csv(sample, index=False)
    table = pd.DataFrame(np.random.default_rng(0).random((121_232, 6)), columns=list(targets)).assign(id=pictures)
    write_predictions(tmp_path / "out.csv", table.iloc[1:], sample, targets)
    assert validate(tmp_path / "out.csv", sample) == 727_392


def test_names_of_several_columns_are_joined_and_taken_apart(tmp_path):
    layout = Layout("subject,visit", ("age",), 10, 30, form="wide", row="series")
    sample, out = tmp_path / "sample.csv", tmp_path / "out.csv"
    sample.write_text("subject,visit,age\nEpi_0001,2,0\nEpi_0001,1,0\nB,1,0\n")
    predictions = pd.DataFrame({"id": ["B_1", "Epi_0001_1", "Epi_0001_2"], "age": [17.0, 18.0, 19.0]})
    assert write_predictions(out, predictions, sample, ("age",), layout).empty
    assert out.read_text().splitlines() == ["subject,visit,age", "Epi_0001,2,19.0", "Epi_0001,1,18.0", "B,1,17.0"]
    assert validate(out, sample, layout) == 3
    out.write_text("subject,visit,age\nEpi_0001,2,19\nEpi_0001,3,18\nB,1,17\n")
    with pytest.raises(UserError, match="line 3, id Epi_0001_3: is not in the sample file"):
        validate(out, sample, layout)
    sample.write_text("subject,age\nB,1\n")
    with pytest.raises(UserError, match="no column subject,visit"):
        validate(out, sample, layout)


@pytest.mark.parametrize("targets", [("viral_pneumonia", "pneumonia"), ("pneumonia", "viral_pneumonia")])
def test_a_target_that_ends_as_another_keeps_its_rows(tmp_path, targets):
    sample = tmp_path / "sample.csv"
    names = [f"{one}_{target}" for one in ("a", "b_x") for target in ("pneumonia", "viral_pneumonia")]
    pd.DataFrame({"ID": names, "Label": 0.5}).to_csv(sample, index=False)
    assert [ending_of(name, targets) for name in names] == ["_pneumonia", "_viral_pneumonia"] * 2
    codes = target_codes(pd.Series(names), targets)
    assert [targets[code] for code in codes] == ["pneumonia", "viral_pneumonia"] * 2
    assert _pictures(sample, targets, Layout("ID", ("Label",))).tolist() == ["a", "a", "b_x", "b_x"]
    told = pd.DataFrame({"id": ["a"], "pneumonia": [0.1], "viral_pneumonia": [0.9]})
    filled = write_predictions(tmp_path / "out.csv", told, sample, targets, prior={"pneumonia": 0.2, "viral_pneumonia": 0.7})
    assert pd.read_csv(tmp_path / "out.csv")["Label"].tolist() == [0.1, 0.9, 0.2, 0.7]
    assert filled["value"].tolist() == [0.2, 0.7]
    write_constant(tmp_path / "constant.csv", sample, {target: len(target) / 100 for target in targets})
    assert pd.read_csv(tmp_path / "constant.csv")["Label"].tolist() == [0.09, 0.15] * 2


def test_a_name_that_ends_in_no_target_has_no_ending():
    assert ending_of("a_b", ("c",)) == ending_of("pneumonia", ("pneumonia",)) == ""
