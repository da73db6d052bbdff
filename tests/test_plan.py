"""The plan: rates from files or from short runs, and sums that follow from them."""

import ast
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from scripts import run_script

from competitions import load
from radstack.commands import plan as planning
from radstack.commands import rates
from radstack.commands.environment import own_cores, processor
from radstack.commands.past import NO_RUN, past_run, sum_known
from radstack.commands.plan import Budget, Size, all_rates, counted, make_plan, plan, verdict
from radstack.commands.rates import ESTIMATE, MEASURED, Rate, known_rate, read_files, short_run, short_sequence, trial_size
from radstack.core.errors import UserError
from radstack.core.files import write_json, write_table
from radstack.core.recipe import change
from radstack.recipes.sequence import DeltasBilstm, Sequence, TwoLevel
from radstack.running.cli import make_context
from radstack.running.context import Options

SRC = Path(__file__).parents[1] / "src"
CPU = torch.device("cpu")
MACHINE = "Abacus 9000"
ONE = change(load("ich", demo=True).recipe("resnet"), name="one", tta=("plain",))
TWO = change(ONE, name="two", train__batch_size=16, tta=("plain", "hflip"))
BILSTM = Sequence("bilstm", ("one",), DeltasBilstm(hidden=8), epochs=3, bag=2, batch_size=4, precision="fp32")
ROW = {"size": "64x64x3", "batch": 32, "precision": "bf16", "parameters_M": 0.5, "width": 128, "pictures_s": 100.0,
       "peak_GB": 2.0, "views": 1, "predict_s": 400.0}
SERIES = {"batch": 4, "precision": "fp32", "parameters_M": 1.0, "series_s": 10.0, "peak_GB": None}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files of measurements: one machine, a trial run, and a file of something else."""
    place = tmp_path / "benchmarks"
    measured = {"recipe/ich/one": ROW, "recipe/ich/two": {"failed": "out of memory"}, "sequence/ich/bilstm": SERIES}
    write_json(place / "abacus.json", {"device": MACHINE, "date": "2026-01-02", "quick": False, "rows": measured})
    trial = {"device": "Trial", "date": "2026-01-02", "quick": True, "rows": {"recipe/ich/one": ROW}}
    write_json(place / "quick.json", trial)
    write_json(place / "other.json", [1, 2])
    monkeypatch.setattr(rates, "FOLDER", place)
    return place


def context_of(tmp_path, *experiments, sequences=(), **options):
    """The demo of head CT under the real one's name, with these models and five folds."""
    ich = change(load("ich", demo=True), name="ich", phantoms=None, folds__count=5, models__experiments=experiments,
                 models__sequences=sequences, models__stackers=(), models__on_call=(), models__final=experiments[-1].name)
    return make_context(ich, Options(data_dir=str(tmp_path), out_dir=str(tmp_path), device="cpu", **options))


def lines(made):
    return {line.name: line for line in made}


# -- rates ------------------------------------------------------------------------------------------------------------


def test_files_are_read_by_machine_and_trials_and_failures_are_left_out(folder):
    found = read_files(folder)
    assert set(found) == {MACHINE} and set(found[MACHINE]) == {"recipe/ich/one", "sequence/ich/bilstm"}
    rate = known_rate(found[MACHINE], "ich", ONE)
    assert rate == Rate(100.0, 400.0, 5e5, 128, 2 * 2.0**30, MEASURED, "abacus.json, 2026-01-02")
    assert known_rate(found[MACHINE], "bone_age", ONE) is None and known_rate(found[MACHINE], "ich", TWO) is None
    slow = known_rate(found[MACHINE], "ich", BILSTM)
    assert (slow.train, slow.predict) == (10.0, 15.0) and math.isnan(slow.memory)


@pytest.mark.parametrize("changed", [{"view__side": 96}, {"train__batch_size": 8}, {"train__precision": "fp32"},
                                     {"tta": ("plain", "hflip")}])
def test_a_rate_of_a_recipe_that_has_changed_is_not_used(folder, changed):
    assert known_rate(read_files(folder)[MACHINE], "ich", change(ONE, **changed)) is None


def test_the_benchmark_of_a_gpu_knows_the_full_recipes_of_today():
    known = read_files(SRC.parent / "benchmarks")["NVIDIA H200"]
    for name in ("ich", "bone_age", "knee_age", "radius_ulna"):
        models = load(name).models
        assert all(known_rate(known, name, one) for one in models.experiments), name
    assert all(known_rate(known, "ich", one) for one in load("ich").models.sequences)


def test_a_short_run_steps_a_small_batch_and_is_an_estimate():
    torch.set_num_threads(1)
    rate = short_run(ONE, load("ich").targets, CPU, longest=0.0)
    assert rate.how == ESTIMATE and rate.source == "2 and 8 pictures of 64x64 a step, bf16" and rate.width == 96
    assert rate.train > 0 and rate.predict > 0 and rate.parameters > 1e5
    assert rate.memory > 16 * rate.parameters + 32 * 3 * 64 * 64 * 4, "weights, and the pictures of the recipe's batch"


def test_large_pictures_are_shrunk_and_the_rate_is_scaled_up_by_pixels(monkeypatch):
    large = change(ONE, view__side=480, train__precision="fp16")
    assert trial_size(large) == (160, 160) and trial_size(ONE) == (64, 64)
    assert trial_size(change(load("bone_age").recipe("A_regression"))) == (192, 128)
    taken = iter((0.5, 1.1, 0.2))  # steps of two pictures and of eight, a look at eight
    monkeypatch.setattr(rates, "seconds", lambda work, device, until: next(taken))
    rate = short_run(large, load("ich").targets, CPU)
    assert rate.train == pytest.approx(32 / (0.3 + 32 * 9 * 0.1)) and rate.predict == pytest.approx(8 / 0.2 / 9)
    assert rate.source.endswith("fp32")


def test_what_a_step_costs_by_itself_is_told_from_what_a_picture_adds():
    assert rates.step_of(32, 1, (2, 0.5), (8, 1.1)) == pytest.approx(0.3 + 3.2)
    assert rates.step_of(32, 2, (2, 0.5), (2, 0.5)) == pytest.approx(16), "one trial"
    assert rates.step_of(32, 1, (2, 0.5), (8, 0.4)) == pytest.approx(0.4 + 32 * 0.05), "a disturbed one"


@pytest.mark.parametrize(("load", "said"), [(0.9, False), (1.1, True), (5.6, True)])
def test_short_runs_beside_other_programs_are_told_of(monkeypatch, load, said):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    words = rates.crowded()
    assert bool(words) == said and (not said or f"load {load}, 2 cores" in words)


@pytest.mark.parametrize("name", ["A_regression", "A_expectation", "inception_sex"])
def test_every_kind_of_head_and_loss_can_be_tried(name):
    torch.set_num_threads(1)
    one = change(load("bone_age").recipe(name), backbone__name="radstack/vgg_elu", backbone__args={
        "size": (64, 48), "widths": (4, 4, 4), "dense": (8, 8)}, view__size=(64, 48))
    assert short_run(one, ("boneage",), CPU, longest=0.0).train > 0


def test_steps_end_where_the_next_would_pass_the_limit(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(rates.time, "perf_counter", lambda: next(clock))
    calls = []
    assert rates.seconds(lambda: calls.append(1), CPU, rates.time.monotonic() + 0.5) == 1 and len(calls) == 1
    assert rates.seconds(lambda: calls.append(1), CPU, rates.time.monotonic() + 100) == 1 and len(calls) == 1 + rates.STEPS


@pytest.mark.parametrize("model", [DeltasBilstm(hidden=8), TwoLevel((4, 4), 4, 1, (4, 4, 4, 4))])
def test_sequence_models_are_tried_on_random_series(model):
    recipe = change(replace(BILSTM, model=model, precision="fp16"), loss__rare_class="epidural")
    rate = short_sequence(recipe, [16], (1, 1), 6, CPU, longest=0.0)
    assert rate.how == ESTIMATE and rate.train > 0 and rate.predict == pytest.approx(rate.train * 3 / 2)
    assert rate.source == "2 series of 6 a step, fp32"


def test_recipes_that_cost_the_same_are_tried_once_and_what_is_known_is_not(folder, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(planning, "short_run", lambda one, targets, device: tried.append(one.name) or Rate(
        1.0, 2.0, 3.0, 4, 5.0, ESTIMATE, "a try"))
    same = change(TWO, name="same", optim__lr=1e-5, sampling__rare_copies=0)
    context = context_of(tmp_path, ONE, TWO, same)
    found = all_rates(context, (ONE, TWO, same), read_files(folder)[MACHINE], Size(10, 2, 1, ""), CPU)
    assert tried == ["two"] and found["two"] == found["same"] and found["one"].how == MEASURED
    assert set(all_rates(context, (ONE, TWO), read_files(folder)[MACHINE], Size(10, 2, 1, ""), None)) == {"one"}


def test_this_machine_has_a_name(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Abacus 9000  \nmodel name\t: other\n")
    assert processor(tmp_path / "cpuinfo") == f"Abacus 9000, {own_cores()} cores"
    assert rates.machine_of(CPU) == processor() and processor(tmp_path / "none").endswith("cores")


# -- sums -------------------------------------------------------------------------------------------------------------


def test_hours_follow_from_rates_and_add_up(folder, tmp_path):
    context = context_of(tmp_path, ONE, sequences=(BILSTM,))
    made = make_plan(context, MACHINE, (3500, 700), 7000)
    found, series = lines(made.stages), 3500 / 35
    train = 3500 * 0.8 * ONE.train.epochs * 5 / 100 / 3600
    predict = (3500 + 700) * 5 / 400 / 3600  # each fold embeds all rows, for the sequence model
    sequence = (series * 0.8 * 3 * 5 / 10 + (series / 5 + 700 / 35) * 5 / 15) / 3600
    assert found["04_train"].amount == pytest.approx(train) and found["05_predict"].amount == pytest.approx(predict)
    assert found["06_sequence"].amount == pytest.approx(sequence)
    assert sum_known(made.stages) == pytest.approx(train + predict + sequence) == pytest.approx(sum_known(made.recipes))
    assert found["04_train"].words == f"{MEASURED}: abacus.json, 2026-01-02"
    assert found["03_cache"].words == NO_RUN and math.isnan(found["03_cache"].amount)
    assert lines(made.hidden)["05_predict"].amount == pytest.approx(7000 * 5 / 400 / 3600)
    assert made.hidden_rows == 7000 and "06_sequence" not in lines(made.hidden), "the final model is the network"
    more = make_plan(context_of(tmp_path, ONE, sequences=(BILSTM,), gpus=4), MACHINE, (3500, 700), 7000)
    assert sum_known(more.stages) == pytest.approx(sum_known(made.stages) / 4)


def test_of_several_networks_the_first_alone_embeds_all_rows(folder, tmp_path):
    three = change(ONE, train__seeds=3)
    rate = Rate(100.0, 400.0, 5e5, 128, 2.0, "measured", "a run")
    budget = Budget(context_of(tmp_path, three, sequences=(BILSTM,)), Size(3500, 700, 35, ""), {three.name: rate})
    rows = 3500 + 2 * 3500 / 5 + 3 * 700  # of one fold
    assert budget.predicting(three) == pytest.approx(rows * 5 / 400 / 3600)


@pytest.mark.parametrize("gpus", [1, 4])
def test_a_probe_looks_at_each_row_once_by_one_view_and_on_one_card(folder, tmp_path, gpus):
    probe = change(ONE, probe=(0.1,), tta=("plain", "hflip"), train__epochs=7, sampling__rare_copies=0)
    rate = Rate(100.0, 400.0, 5e5, 128, 2.0, "measured", "a run")
    budget = Budget(context_of(tmp_path, probe, gpus=gpus), Size(3500, 700, 35, ""), {probe.name: rate})
    assert budget.training(probe) == pytest.approx(3500 * 4 / 5 * 5 / 2 / 400 / 3600)


def test_disk_and_memory_follow_from_sizes(folder, tmp_path):
    made = make_plan(context_of(tmp_path, ONE, sequences=(BILSTM,), workers=2), MACHINE, (3500, 700))
    disk, memory = lines(made.disk), lines(made.memory)
    assert disk["cache"].amount == 4200 * 64 * 64 * 2
    assert disk["weights"].amount == 5 * 5e5 * 4 + 5 * 2 * 1e6 * 4 + 1e6 * 4 * 4, "networks, bags of two, a checkpoint"
    assert disk["oof"].amount == 2 * (3500 + 5 * 700) * 6 * 4 + 5 * 4200 * 128 * 2
    assert memory["training"].amount == 2 * 2.0**30 and "one; measured" in memory["training"].words
    assert memory["loader"].amount == 3 * 64 * 64 * 32 * 3 * 2 and memory["bilstm"].amount == 3500 * 128 * 2


def test_sampling_decides_how_many_pictures_an_epoch_has(tmp_path):
    budget = Budget(context_of(tmp_path, ONE), Size(3500, 700, 35, ""), {})
    plain = change(ONE, sampling__rare_copies=0)
    assert budget.visits(plain) == pytest.approx(2800)
    assert budget.visits(change(plain, sampling__copies=3)) == pytest.approx(8400)
    assert budget.visits(change(plain, sampling__per_series=7)) == pytest.approx(560)


def test_localizers_are_counted_by_their_annotated_pictures_where_no_run_tells_stage_02(tmp_path, monkeypatch):
    options = Options(out_dir=str(tmp_path), data_dir=str(tmp_path), only=("lite0",), device="cpu")
    hands = make_context(load("bone_age"), options)
    rate = Rate(10.0, 20.0, 1e6, 4, 5.0, ESTIMATE, "a try")
    tried = []
    monkeypatch.setattr(planning, "short_run", lambda one, targets, device: tried.append(one.name) or rate)
    assert lines(make_plan(hands).stages)["02_localize"].words == NO_RUN and tried == ["lite0"]
    index = pd.DataFrame({"id": range(50), "split": ["train"] * 40 + ["test"] * 10, "mask": ["m.png"] * 20 + [""] * 30})
    points = {f"p{point}{axis}": [1.0] * 10 + [math.nan] * 40 for point in (1, 2, 3) for axis in "xy"}
    write_table(hands.paths.folds / "index.parquet", index.assign(**points))
    found = lines(make_plan(hands).stages)["02_localize"]
    trained = [(20, "hand_mask"), (10, "hand_landmarks"), (10, "hand_landmarks_fine")]
    epochs = {one.name: one.train.epochs for one in hands.competition.localizer.networks}
    hours = sum(count * 0.8 * epochs[name] * 5 / 10 + (40 + 10 * 5) / 20 for count, name in trained) / 3600
    assert found.amount == pytest.approx(hours) and found.words.startswith("networks alone (3 estimate)")


def test_what_is_not_measured_on_a_named_machine_is_unknown_and_said(folder, tmp_path, capsys):
    plan(context_of(tmp_path, ONE, TWO), MACHINE, (3500, 700))
    said = capsys.readouterr().out
    assert said.startswith(f"ich on {MACHINE}: 3,500 training and 700 test pictures, as given; 5 folds")
    assert "measured: abacus.json, 2026-01-02" in said and "unknown: not measured on this machine" in said
    assert "1 measured, 1 unknown" in said and "without all of 00_get_data" in said and "04_train, 05_predict" in said
    assert "a short run" not in said and "estimate" not in said
    assert f"{NO_RUN}: it gives the other stages' rates, however small: bash run_all.sh ich --limit 50" in said


def test_here_a_short_run_gives_the_rate_and_says_so(tmp_path, capsys):
    torch.set_num_threads(1)
    context = make_context(load("ich", demo=True), Options(only=("resnet",), device="cpu", out_dir=str(tmp_path)))
    plan(context, rows=(100, 20))
    said = capsys.readouterr().out
    assert "a short run of resnet" in said and "estimate: 2 and 8 pictures of 64x64 a step, bf16" in said
    assert "scaled up by pixels and pictures" in said and "measured" not in said
    assert f"ich-demo on {processor()}" in said and "free" in said and "% of 9 hours" in said


def test_nine_hours_are_a_verdict(folder, tmp_path):
    small = make_plan(context_of(tmp_path, ONE), MACHINE, (3500, 700))
    assert "% of 9 hours" in verdict(small) and "not all of 02_localize, 03_cache, 07_stack" in verdict(small)
    large = make_plan(context_of(tmp_path, ONE), MACHINE, (3500, 700), 10_000_000)
    assert "does not fit into 9 hours" in verdict(large)
    assert "unknown" in verdict(make_plan(context_of(tmp_path, TWO), MACHINE, (3500, 700)))


def test_pictures_are_counted_by_stage_01_or_given_or_shipped(tmp_path):
    assert counted(make_context(load("ich"), Options(out_dir=str(tmp_path))), ()) == Size(
        752_803, 121_232, 35, "as the organizer ships them")
    context = context_of(tmp_path, ONE)
    rows = pd.DataFrame({"id": list("abcdef"), "split": ["train"] * 4 + ["test"] * 2, "series": list("xxyyzz")})
    write_table(context.paths.folds / "index.parquet", rows)
    assert counted(context, ()) == Size(4, 2, 2.0, "as stage 01 counted them")
    assert counted(context, (9, 3)).train == 9
    with pytest.raises(UserError, match="two numbers"):
        counted(context, (9,))
    with pytest.raises(UserError, match="python src/01_make_folds.py radius_ulna .*or give --rows"):
        counted(make_context(load("radius_ulna"), Options(out_dir=str(tmp_path))), ())


def test_the_other_stages_take_their_rates_from_the_largest_earlier_run(tmp_path):
    context = context_of(tmp_path, ONE, workers=2)
    assert past_run(context).line("03_cache", 100).words == NO_RUN
    for name, count in (("ich-limit5", 40), ("ich-limit2", 8), ("ich-demo", 400)):
        table = pd.DataFrame({"id": range(count), "split": ["train"] * (count * 3 // 4) + ["test"] * (count // 4)})
        write_table(tmp_path / "folds" / name / "index.parquet", table)
    manifest(tmp_path / "folds/ich-limit5/index.parquet.json", "01_make_folds", 2.0, "a")
    manifest(tmp_path / "folds/ich-limit5/folds.csv.json", "01_make_folds", 2.0, "a")  # made together with the first
    manifest(tmp_path / "cache/ich-limit5/shard-00000.npy.json", "03_cache", 8.0, "b")
    for file, seconds in (("fold0.parquet", 30.0), ("fold0_test.parquet", 5.0)):
        manifest(tmp_path / f"oof/ich-limit5/final/{file}.json", "07_stack", seconds, file)
    write_json(tmp_path / "cache/ich-limit5/note.json", {"stage": "no manifest"})
    past = past_run(context)
    assert past.folder == "ich-limit5" and past.rows == {"train": 30, "test": 10}
    assert past.line("01_make_folds", 4000).amount == pytest.approx(200 / 3600)
    assert past.line("01_make_folds", 4000).words == "estimate: ich-limit5, 40 pictures"
    assert past.line("01_make_folds", 40).words == "measured: ich-limit5, 40 pictures"
    assert past.line("03_cache", 4000).amount == pytest.approx(800 / 2 / 3600), "shared by two workers"
    assert past.line("07_stack", 4000).amount == pytest.approx(3500 / 3600)
    assert past.applied("07_stack", 1000).amount == pytest.approx(500 / 3600), "what was fitted is not fitted again"


def manifest(file, stage, seconds, key):
    write_json(file, {"key": key, "stage": stage, "seconds": seconds})


def test_wrong_machines_and_gpus_that_are_not_there_end_in_one_line(folder, tmp_path):
    with pytest.raises(UserError, match=f"did you mean '{MACHINE}'"):
        make_plan(context_of(tmp_path, ONE), "Abacus 9001", (10, 2))
    with pytest.raises(UserError, match=f"--gpus 2: there is no GPU here; name a machine with --machine, one of {MACHINE}"):
        make_plan(context_of(tmp_path, ONE, gpus=2), "", (10, 2))


# -- the scripts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plan", "get_weights"])
def test_a_script_is_short_and_says_what_it_does(name):
    text = (SRC / f"{name}.py").read_text()
    doc = ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 40 and all(word in doc for word in ("reads", "writes", "command", "takes"))
    assert f"{name}.py" in (SRC.parent / "README.md").read_text()


def test_the_script_plans_the_full_recipes_for_a_measured_gpu(tmp_path):
    folders = ("--data-dir", str(tmp_path), "--out-dir", str(tmp_path))
    done = run_script("plan", "ich", "--machine", "NVIDIA H200", "--gpus", "4", *folders)
    assert done.returncode == 0, done.stderr
    assert "ich on NVIDIA H200, 4 GPUs: 752,803 training and 121,232 test pictures" in done.stdout
    assert "8 measured" in done.stdout and "divided by 4 GPUs" in done.stdout and not list(tmp_path.iterdir())
    wrong = run_script("plan", "ich", "--machine", "NVIDIA H2000", *folders)
    assert wrong.returncode == 1 and "did you mean 'NVIDIA H200'" in wrong.stderr and len(wrong.stderr.splitlines()) == 1
    assert json.loads((SRC.parent / "benchmarks" / "gpu.json").read_text())["device"] == "NVIDIA H200"
