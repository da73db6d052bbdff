from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from radstack.core.errors import LeakError, UserError
from radstack.core.recipe import change
from radstack.recipes.losses import BinaryCrossEntropy, Regression
from radstack.recipes.sequence import Attention, DeltasBilstm, Sequence, TwoLevel
from radstack.scoring.metrics import weighted_log_loss
from radstack.sequence import train
from radstack.sequence.arrays import Arrays, arrays_of, held_out_probs, series_bounds
from radstack.sequence.feed import SPACES, Batch, augmented, buckets, make_feed, procrustes, whole
from radstack.sequence.models import Bidirectional, SeriesDropout, SliceNorm, build, turned, with_deltas
from radstack.sequence.train import Trainer, autocast, checkpoint_path, fit_fold, loss, make_objective, predict, rate
from radstack.training.loop import Loop, Position

CPU = torch.device("cpu")


def trainer_of(recipe, arrays, fold, weights, *series):
    """The trainer of one fold on its own feed."""
    return Trainer(recipe, arrays, fold, weights, make_feed(recipe, arrays, fold, CPU), *series)


FULL = TwoLevel()
TINY = {"deltas": DeltasBilstm(hidden=16), "two_level": TwoLevel((16, 8), 8, 1, (16, 16, 16, 16), dropout=0.1)}
BASE = Sequence("base", ("net",), TINY["deltas"], lr=3e-3, gamma=1.0, epochs=3, bag=2, batch_size=8, precision="fp32")


@pytest.fixture(autouse=True)
def only_the_last_line(monkeypatch):
    """Lines on the way to it come by the clock, none on a quick machine."""
    monkeypatch.setattr("radstack.core.progress.LINE_SECONDS", float("inf"))


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def made(series=40, width=6, targets=2, folds=3, seed=0, rotate=False) -> Arrays:
    """A slice's label depends on its neighbors' embeddings; the embedding alone says little of it."""
    rng = np.random.default_rng(seed)
    length = rng.integers(6, 14, series)
    stop = np.cumsum(length)
    start = stop - length
    number = np.repeat(np.arange(series), length)
    hidden = rng.normal(size=(stop[-1], width))
    before, after = np.roll(hidden, 1, 0), np.roll(hidden, -1, 0)
    before[start], after[stop - 1] = 0, 0
    labels = (before + after + 0.3 * hidden > 0)[:, :targets].astype(np.float32)
    fold = np.where(number < series - 6, number % folds, -1)
    labels[fold < 0] = np.nan
    turns = [np.linalg.qr(rng.normal(size=(width, width)))[0] if rotate else np.eye(width) for _ in range(folds)]
    embeddings = {k: (hidden @ turns[k]).astype(np.float16) for k in range(folds)}
    own = 1 / (1 + np.exp(-0.3 * hidden[:, :targets]))
    probs = {k: np.where(((fold == k) | (fold < 0))[:, None], own, np.nan).astype(np.float32) for k in range(folds)}
    z = np.concatenate([np.arange(n) * 5.0 for n in length]).astype(np.float32)
    group = np.char.add("patient", number.astype(str))
    return Arrays({"net": embeddings}, {"net": probs}, labels, fold, group, z, start, stop)


def random_batch(lengths, widths, members, targets, seed=0, padding=0.0) -> Batch:
    torch.manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    def fill(*shape):
        x = torch.rand(*mask.shape, *shape)
        return x.masked_fill(~mask.view(*mask.shape, *[1] * len(shape)), padding)
    rows = np.where(np.arange(max(lengths)) < np.array(lengths)[:, None], 0, -1)
    return Batch(rows, [fill(w) for w in widths], fill(members, targets), fill(),
                 fill(targets).round(), mask)


def alone(batch: Batch, series: int) -> Batch:
    pick = slice(series, series + 1), slice(0, int(batch.mask[series].sum()))
    return Batch(batch.rows[pick], [block[pick] for block in batch.features], batch.probs[pick],
                 batch.spacing[pick], batch.labels[pick], batch.mask[pick])


def warmed(model, batch):
    """Give norms statistics that are not the identity."""
    model.train()
    model(batch)
    return model.eval()


# --- networks ---------------------------------------------------------------------------------------------------------

def lstm_count(width, hidden):
    return 2 * 4 * (width * hidden + hidden * hidden + 2 * hidden)


def test_deltas_net_at_full_size_has_the_published_layers():
    with torch.device("meta"):
        model = build(DeltasBilstm(), [2048], 1, 6)
        batch = random_batch([5, 5], [2048], 1, 6)
        logits, = model(batch)
    assert logits.shape == (2, 5, 6)
    expected = lstm_count(6144, 2048) + lstm_count(4096, 2048) + 2 * (4096 * 4096 + 4096) + 4096 * 6 + 6
    assert sum(weight.numel() for weight in model.parameters()) == expected == 268_533_766
    assert model.skip is None


def test_two_level_net_at_full_size_has_the_published_layers():
    model = build(FULL, [2048, 2048, 1024], 3, 6)
    gru = lambda width: 2 * 3 * (width * 96 + 96 * 96 + 2 * 96)  # noqa: E731
    shrink = (2048 + 2048 + 1024) * 512 + 3 * (2 * 512 + 512 * 128 + 2 * 128)
    heads = 384 * 6 + 6 + 2 * (192 * 6 + 6)
    grus = gru(384) + gru(192) + gru(6 * 256) + gru(192)
    convs = 5 * 5 * 512 + 3 * 512 * 256 + 2 * 3 * 256 * 256 + 2 * (512 + 3 * 256) + 3 * 256
    assert sum(weight.numel() for weight in model.parameters()) == shrink + heads + grus + convs
    outputs = model.eval()(random_batch([7, 4], [2048, 2048, 1024], 3, 6))
    assert [tuple(logits.shape) for logits in outputs] == [(2, 7, 6)] * 2
    assert [conv.conv.conv.dilation for conv in model.convs] == [(1,), (2,), (4,), (2,)]


@pytest.mark.parametrize("sizes", [DeltasBilstm(), DeltasBilstm(hidden=5), FULL, TINY["two_level"]], ids=str)
def test_padded_series_give_what_they_give_alone(sizes):
    lengths = [9, 4, 1, 7]
    model = build(sizes, [12, 6], 2, 3)
    batch = random_batch(lengths, [12, 6], 2, 3, padding=7.0)
    warmed(model, random_batch([9, 8], [12, 6], 2, 3))
    together = model(batch)
    for series, length in enumerate(lengths):
        for padded, single in zip(together, model(alone(batch, series))):
            torch.testing.assert_close(padded[series, :length], single[0], atol=1e-5, rtol=0)


def test_the_backward_direction_meets_the_last_real_slice_first():
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    assert turned(mask).tolist() == [[2, 1, 0, 3, 4], [4, 3, 2, 1, 0]]


@pytest.mark.parametrize("cell", [torch.nn.LSTM, torch.nn.GRU])
def test_bidirectional_equals_a_packed_two_way_network(cell):
    ours, theirs = Bidirectional(cell, 5, 4, layers=2), cell(5, 4, num_layers=2, bidirectional=True, batch_first=True)
    for layer in range(2):
        for parts, end in ((ours.forwards, ""), (ours.backwards, "_reverse")):
            for name, weight in parts[layer].named_parameters():
                weight.data.copy_(getattr(theirs, name.replace("l0", f"l{layer}") + end))
    x, mask = torch.randn(3, 8, 5), torch.arange(8) < torch.tensor([[8], [5], [1]])
    packed = pack_padded_sequence(x, mask.sum(1), batch_first=True)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    torch.testing.assert_close(ours(x, mask)[mask], expected[mask], atol=1e-6, rtol=0)


def test_deltas_by_hand():
    x = torch.tensor([[[1.0], [4.0], [9.0], [99.0]]])
    mask = torch.tensor([[True, True, True, False]])
    assert with_deltas(x, mask)[0, :3].tolist() == [[1, 0, -3], [4, 3, -5], [9, 5, 0]]


def test_hidden_sum_adds_the_embedding_itself():
    model = build(DeltasBilstm(), [4], 1, 3)
    for name, weight in model.named_parameters():
        if not name.startswith("head"):
            torch.nn.init.zeros_(weight)
    batch = random_batch([3], [4], 1, 3)
    e = batch.features[0]
    torch.testing.assert_close(model(batch)[0], model.head(torch.cat([e, e], -1)))


def test_dropout_takes_a_channel_from_the_whole_series():
    torch.manual_seed(0)
    out = SeriesDropout(0.5)(torch.ones(4, 9, 50))
    assert (out == out[:, :1]).all() and set(out.unique().tolist()) == {0.0, 2.0}
    batch = random_batch([6, 6], [8], 1, 2)
    for sizes in (DeltasBilstm(), TINY["two_level"]):
        still, noisy = (build(replace(sizes, dropout=share), [8], 1, 2).train() for share in (0.0, 0.5))
        assert torch.equal(still(batch)[-1], still(batch)[-1]) and not torch.equal(noisy(batch)[-1], noisy(batch)[-1])


def test_norm_counts_real_slices_only():
    norm, mask = SliceNorm(1), torch.tensor([[True, True, False]])
    out = norm(torch.tensor([[[1.0], [3.0], [1000.0]]]), mask)
    assert norm.norm.running_mean.item() == pytest.approx(0.2)
    torch.testing.assert_close(out[0, :, 0], torch.tensor([-1.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    assert torch.isfinite(norm(torch.ones(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))).all()


def test_attention_gives_a_series_one_answer_and_padding_no_share():
    model = build(Attention(hidden=8), [6], 1, 2).eval()
    batch = random_batch([5, 3], [6], 1, 2, padding=7.0)
    out = model(batch)[0]
    assert (out == out[:, :1]).all() and not torch.allclose(out[0, 0], out[1, 0])
    alone = random_batch([3], [6], 1, 2)
    alone.features[0].copy_(batch.features[0][1:, :3])
    torch.testing.assert_close(model(alone)[0][0, 0], out[1, 0])


def test_attention_learns_a_value_of_the_series_that_few_slices_show(tmp_path):
    rng, series, slices = np.random.default_rng(0), 300, 9
    truth = rng.normal(17, 2, series)
    seen = rng.integers(0, slices, series)
    x = rng.normal(0, 0.3, (series, slices, 6))
    x[np.arange(series), seen, 0] = (truth - 17) / 2
    x[np.arange(series), seen, 1] = 3  # marks the slice that knows
    start = np.arange(series) * slices
    fold = np.repeat(np.arange(series) % 3, slices)
    labels = np.repeat(truth, slices)[:, None].astype(np.float32)
    embeddings = {"net": dict.fromkeys(range(3), x.reshape(-1, 6).astype(np.float16))}
    z = np.tile(np.arange(slices), series).astype(np.float32)
    arrays = Arrays(embeddings, {}, labels, fold, start.repeat(slices), z, start, start + slices)
    recipe = replace(BASE, model=Attention(hidden=16, dropout=0.0), loss=Regression(17, 2), lr=1e-2, epochs=30, bag=5)
    fitted = fit_fold(recipe, arrays, 0, (1,), tmp_path, "cpu", lambda _: None)
    plain = np.abs(labels[fitted.rows] - 17).mean()
    assert np.abs(fitted.predictions - labels[fitted.rows]).mean() < 0.25 * plain
    with pytest.raises(UserError, match="values have none"):
        replace(recipe, logits=True)


def test_level_two_reads_probabilities_spacing_and_level_one():
    model = build(TINY["two_level"], [6], 2, 3).eval()
    batch = random_batch([6], [6], 2, 3)
    batch.probs.requires_grad_()
    batch.spacing.requires_grad_()
    first, second = model(batch)
    second.sum().backward()
    assert batch.probs.grad.abs().min() > 0 and batch.spacing.grad.abs().min() > 0
    assert model.linear.weight.grad.abs().sum() > 0
    assert not torch.allclose(first, second)


def test_loss_weighs_targets_ignores_padding_and_adds_levels():
    batch = random_batch([2, 1], [1], 1, 2)
    logits = torch.where(batch.mask[..., None], torch.tensor([0.0, 2.0]), torch.tensor([50.0, -50.0]))
    batch.labels[batch.mask] = torch.tensor([1.0, 0.0])
    expected = (np.log(2) + 2 * np.log1p(np.exp(2))) / 3
    how = make_objective(BinaryCrossEntropy(), (1, 2), ("a", "b"))
    value = loss((logits,), batch, how)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert loss((logits, logits), batch, how).item() == pytest.approx(2 * expected, rel=1e-6)


def test_the_rare_class_of_a_loss_is_a_target_by_its_name():
    arrays = replace(made(), targets=("any", "epidural"))
    recipe = change(BASE, loss__rare_class="epidural", loss__rare_weight=3.0)
    assert trainer_of(recipe, arrays, 0, (1, 1)).objective.positive_factor.tolist() == [1.0, 3.0]
    with pytest.raises(UserError, match="'epidurel'.*epidural"):
        trainer_of(change(recipe, loss__rare_class="epidurel"), arrays, 0, (1, 1))


# --- batches ----------------------------------------------------------------------------------------------------------

def test_every_series_is_in_an_epoch_exactly_once_in_buckets_of_like_length():
    count = np.random.default_rng(0).integers(20, 60, 500)
    batches = list(buckets(count, 8, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches)) == list(range(500))
    waste = 1 - count.sum() / sum(len(batch) * count[batch].max() for batch in batches)
    assert waste < 0.05
    again, other = (list(buckets(count, 8, np.random.default_rng(seed))) for seed in (1, 2))
    assert all((a == b).all() for a, b in zip(batches, again))
    assert any((a != b).any() for a, b in zip(batches, other))


def test_what_is_predicted_goes_in_batches_of_like_length_each_series_once():
    count = np.random.default_rng(0).integers(20, 60, 500)
    picks = whole(np.cumsum(count) - count, np.cumsum(count))
    batches = list(train.alike(picks))
    assert sorted(np.concatenate([batch.first for batch in batches])) == picks.first.tolist()
    assert 1 - count.sum() / sum(len(batch) * batch.count.max() for batch in batches) < 0.05


@pytest.mark.parametrize("kind", TINY)
def test_batches_of_like_length_predict_and_score_as_series_alone(kind, monkeypatch):
    recipe, arrays = change(BASE, model=TINY[kind]), made()
    held = np.arange(len(arrays.start)) % 2 == 0
    held &= arrays.fold[arrays.start] >= 0
    trainer = trainer_of(recipe, arrays, 0, (1.0, 1.0), ~held & (arrays.fold[arrays.start] >= 0), held)
    together = trainer.predict(lambda **_: None), trainer.held_loss()
    monkeypatch.setattr(train, "PREDICT_SERIES", 1)
    np.testing.assert_allclose(trainer.predict(lambda **_: None), together[0], atol=1e-6)
    assert trainer.held_loss() == pytest.approx(together[1], rel=1e-6)


def test_epochs_are_a_function_of_seed_fold_and_epoch():
    recipe = change(BASE, crop=5, reverse=0.5, every_second=0.5)
    arrays = made()
    def rows(seed, fold, epoch):
        trainer = trainer_of(change(recipe, seed=seed), arrays, fold, (1, 1))
        batches = trainer.batches(Position(epoch))
        return np.concatenate([batch.rows.ravel()[:5] for batch, _ in batches]).tolist()
    assert rows(0, 0, 1) == rows(0, 0, 1)
    assert len({str(rows(*key)) for key in [(0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 0, 2)]}) == 4


def test_augmentation_stays_inside_a_series_and_keeps_order():
    length = np.r_[np.ones(50, int), np.full(300, 40)]
    stop = np.cumsum(length)
    picks = whole(stop - length, stop)
    rng = np.random.default_rng(0)
    cut = augmented(picks, change(BASE, crop=24, reverse=0.5, every_second=0.5), rng)
    rows, mask = cut.rows()
    for series in range(len(picks)):
        got = rows[series][mask[series]]
        assert 1 <= len(got) <= 24 and got.min() >= stop[series] - length[series] and got.max() < stop[series]
    assert (np.abs(cut.step[:50]) == 1).all(), "short series are not thinned"
    assert 0.4 < (np.abs(cut.step[50:]) == 2).mean() < 0.6 and 0.4 < (cut.step < 0).mean() < 0.6
    assert set(cut.count[50:][np.abs(cut.step[50:]) == 1]) == {24}
    assert set(cut.count[50:][np.abs(cut.step[50:]) == 2]) == {20}
    plain = augmented(picks, BASE, rng)
    assert (plain.first == picks.first).all() and (plain.count == picks.count).all() and (plain.step == 1).all()


def test_batches_hold_the_rows_they_name():
    arrays = made()
    feed = make_feed(replace(BASE, model=FULL), arrays, 1, CPU)
    batch = feed.batch(whole(arrays.start, arrays.stop)[np.array([3, 38])].reversed(np.array([True, False])))
    rows = np.arange(arrays.start[3], arrays.stop[3])[::-1]
    assert (batch.rows[0][batch.rows[0] >= 0] == rows).all()
    torch.testing.assert_close(batch.features[0][0, : len(rows)],
                               torch.from_numpy(arrays.embeddings["net"][1][rows]).float())
    held_out = arrays.probs["net"][0][rows]
    np.testing.assert_array_equal(batch.probs[0, : len(rows), 0], held_out)
    test = arrays.start[38]
    np.testing.assert_array_equal(batch.probs[1, :3, 0], arrays.probs["net"][1][test : test + 3])
    np.testing.assert_array_equal(batch.labels[0, : len(rows)], arrays.labels[rows])
    assert batch.mask.sum().item() == (batch.rows >= 0).sum()
    for block in (*batch.features, batch.probs, batch.spacing):
        assert (block[~batch.mask] == 0).all()


def test_spacing_is_measured_between_the_slices_read():
    arrays = made()
    arrays.z[arrays.start[0] : arrays.start[0] + 4] = [0, 5, 10, 12.5]
    feed = make_feed(BASE, arrays, 0, CPU)
    picks = whole(np.array([arrays.start[0], arrays.start[0]]), np.array([arrays.start[0] + 4, arrays.start[0] + 1]))
    np.testing.assert_allclose(feed.batch(picks).spacing, np.log1p([[5, 5, 2.5, 2.5], [0, 0, 0, 0]]), rtol=1e-6)
    np.testing.assert_allclose(feed.batch(picks.reversed()).spacing[0], np.log1p([2.5, 5, 5, 5]), rtol=1e-6)


def test_a_slice_without_a_place_has_no_spacing_and_leaves_the_others_theirs():
    arrays = made()
    arrays.z[arrays.start[0] : arrays.start[0] + 4] = [0, 5, 10, np.nan]
    arrays.z[arrays.start[1] : arrays.start[1] + 3] = np.nan
    feed = make_feed(BASE, arrays, 0, CPU)
    picks = whole(arrays.start[:2], arrays.start[:2] + [4, 3])
    np.testing.assert_allclose(feed.batch(picks).spacing, [[np.log1p(5), np.log1p(5), 0, 0], [0, 0, 0, 0]], rtol=1e-6)


# --- spaces and arrays ------------------------------------------------------------------------------------------------

def test_procrustes_recovers_a_rotation_and_a_shift():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    x = rng.normal(size=(200, 8))
    matrix, shift = procrustes(x, x @ turn + 3.0)
    np.testing.assert_allclose(matrix, turn, atol=1e-5)
    np.testing.assert_allclose(shift, np.full(8, 3.0), atol=1e-4)


def test_spaces_read_the_right_network():
    arrays, rows = made(rotate=True), np.arange(12)
    tables = arrays.embeddings["net"]
    own, aligned = (SPACES[name](arrays, "net", 1, CPU).take(rows).numpy() for name in ("own", "procrustes"))
    np.testing.assert_array_equal(own, tables[1][rows].astype(np.float32))
    np.testing.assert_allclose(aligned, own, atol=0.02)
    assert np.abs(tables[0][rows].astype(np.float32) - own).max() > 0.5
    moved = {**tables, 0: tables[0] + np.float16(1)}
    moved[0][arrays.fold == 0] += np.float16(2)
    shifted = Arrays({"net": moved}, *[getattr(arrays, name) for name in
                                       ("probs", "labels", "fold", "group", "z", "start", "stop")])
    first = np.flatnonzero(arrays.fold == 0)[:5]
    assert np.abs(SPACES["procrustes"](shifted, "net", 1, CPU).take(first).numpy()
                  - SPACES["own"](shifted, "net", 1, CPU).take(first).numpy()).max() > 0.5


def test_alignment_is_fitted_without_the_scored_fold_and_the_test_rows():
    arrays = made(rotate=True)
    before = SPACES["procrustes"](arrays, "net", 1, CPU).rotations[0].matrix.clone()
    for table in arrays.embeddings["net"].values():
        table[(arrays.fold == 1) | arrays.is_test] = np.nan
    torch.testing.assert_close(SPACES["procrustes"](arrays, "net", 1, CPU).rotations[0].matrix, before)


def test_rows_that_are_all_new_are_read_without_rotation():
    arrays = made(rotate=True)
    arrays.fold[:] = -1
    assert not SPACES["procrustes"](arrays, "net", 1, CPU).rotations


def test_logits_are_appended_to_embeddings():
    arrays = made()
    feed = make_feed(change(BASE, logits=True), arrays, 0, CPU)
    assert feed.widths == [6, 2]
    p = held_out_probs(arrays, ("net",), 0)[:, 0]
    np.testing.assert_allclose(feed.spaces[1].take(np.arange(9)).numpy(), np.log(p[:9] / (1 - p[:9])), rtol=1e-3)


def test_arrays_of_tables_join_by_id():
    index = pd.DataFrame({"id": list("abcd"), "split": ["train"] * 3 + ["test"], "group": ["p", "q", "q", "r"],
                          "series": ["s1", "s2", "s2", "s3"], "z": [0.0, 1, 2, 0], "x": [0.0, 1, 0, np.nan]})
    folds = pd.DataFrame({"group": ["q", "p"], "fold": [1, 0]})
    table = pd.DataFrame({"id": ["d", "c", "b"], "fold": 1, "x": [0.4, 0.3, 0.2]})
    arrays = arrays_of(index, folds, ("x",), {}, {"net": {1: table}})
    assert arrays.fold.tolist() == [0, 1, 1, -1] and arrays.targets == ("x",)
    assert (arrays.start.tolist(), arrays.stop.tolist()) == ([0, 1, 3], [1, 3, 4])
    np.testing.assert_allclose(arrays.probs["net"][1][:, 0], [np.nan, 0.2, 0.3, 0.4], rtol=1e-6)
    assert arrays.z.tolist() == [0, 1, 2, 0]
    pictures = index.rename(columns={"z": "position"})  # of a competition of one's own: in order, without millimeters
    assert arrays_of(pictures, folds, ("x",), {}, {}).z.tolist() == [0, 1, 2, 0]
    with pytest.raises(UserError, match="patient p is in no fold"):
        arrays_of(index, folds[:1], ("x",), {}, {})
    with pytest.raises(UserError, match="not sorted"):
        series_bounds(np.array(["a", "b", "a"]))


def test_a_leak_raises(tmp_path):
    arrays = made()
    arrays.group[arrays.start[0] : arrays.stop[0]] = arrays.group[arrays.start[1]]
    with pytest.raises(LeakError, match="patient1 is both trained on and scored"):
        fit_fold(BASE, arrays, 0, (1, 1), tmp_path, "cpu", print)
    arrays = made()
    arrays.fold[arrays.start[0]] = 1
    with pytest.raises(LeakError, match="one series lie in different folds"):
        fit_fold(BASE, arrays, 0, (1, 1), tmp_path, "cpu", print)


@pytest.mark.parametrize(("edits", "fold", "message"), [
    ({"members": ("other",)}, 0, "other has no embeddings of fold 0"),
    ({}, 7, "fold 7 has 0 rows to score"),
    ({"space": "nowhere"}, 0, "choose one of own, procrustes"),
    ({"precision": "fp8"}, 0, "choose one of fp32, bf16, fp16"),
])
def test_what_is_missing_is_named(edits, fold, message, tmp_path):
    with pytest.raises(UserError, match=message):
        fit_fold(change(BASE, **edits), made(), fold, (1, 1), tmp_path, "cpu", print)


def test_an_untrained_fold_is_named_where_its_predictions_are_needed(tmp_path):
    arrays = made()
    del arrays.probs["net"][2], arrays.embeddings["net"][2]
    for recipe in (replace(BASE, model=TINY["two_level"]), change(BASE, logits=True), change(BASE, space="procrustes")):
        with pytest.raises(UserError, match="of fold 2"):
            fit_fold(recipe, arrays, 0, (1, 1), tmp_path, "cpu", print)
    fit_fold(change(BASE, epochs=1), arrays, 0, (1, 1), tmp_path, "cpu", lambda _: None)


# --- training ---------------------------------------------------------------------------------------------------------

def test_learning_rate_by_epoch():
    second, first = Sequence("a", ()), Sequence("b", (), lr=3e-4, gamma=0.1, milestones=(20, 30))
    assert [rate(second, epoch) for epoch in (0, 1, 11)] == pytest.approx([1e-5, 0.95e-5, 1e-5 * 0.95**11])
    assert [rate(first, epoch) for epoch in (0, 19, 20, 29, 30)] == pytest.approx([3e-4, 3e-4, 3e-5, 3e-5, 3e-6])


@pytest.mark.parametrize("kind", TINY)
@pytest.mark.parametrize("space", SPACES)
def test_sequence_models_beat_a_slice_on_its_own(kind, space, tmp_path):
    arrays = made(series=150, rotate=True)
    epochs = {"deltas": 10, "two_level": 12}[kind]
    recipe = replace(BASE, model=TINY[kind], space=space, lr=1e-2, epochs=epochs, bag=3, reverse=0.5, reverse_tta=True)
    fitted = fit_fold(recipe, arrays, 0, (1, 2), tmp_path, "cpu", lambda _: None)
    train_rows, scored = (arrays.fold > 0), fitted.rows
    x, y = arrays.embeddings["net"][0].astype(np.float32), arrays.labels
    baseline = np.stack([LogisticRegression().fit(x[train_rows], y[train_rows, c]).predict_proba(x[scored])[:, 1]
                         for c in range(2)], axis=1)
    slice_score, score = (weighted_log_loss(y[scored], p, (1, 2)) for p in (baseline, fitted.predictions))
    assert slice_score > 0.6
    assert score < slice_score - 0.1
    assert (fitted.rows == np.flatnonzero(arrays.fold == 0)).all()
    new = replace(arrays, fold=np.full_like(arrays.fold, -1), probs={"net": {0: np.nan_to_num(arrays.probs["net"][0])}})
    assert np.isfinite(train.apply_fold(recipe, new, 0, fitted.weights, CPU, (1, 2))[arrays.is_test]).all()


@pytest.mark.parametrize("recipe", [
    Sequence("second", ("net",), precision="fp32", epochs=1, batch_size=4),
    Sequence("second_bf16", ("net",), precision="bf16", epochs=1, batch_size=4),
    Sequence("first", ("net",), FULL, lr=3e-4, gamma=0.1, milestones=(20, 30), epochs=40, bag=1, batch_size=8, crop=24,
             reverse=0.5, every_second=0.5, reverse_tta=True, precision="fp32"),
], ids=lambda recipe: recipe.name)
def test_one_step_of_the_full_recipes(recipe):
    arrays = made(series=16, width=48, targets=6)
    trainer = trainer_of(recipe, arrays, 0, (1, 1, 1, 1, 1, 2))
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    done = trainer.step((trainer.feed.batch(trainer.train_picks), 1.0), Position())
    assert done.moved and 0.3 < done.loss < 2.0
    for name, weight in trainer.model.named_parameters():
        moved = (weight - before[name]).abs().max().item()
        assert 0 < moved <= recipe.lr * 1.01, f"Adam's first step moves {name} by at most lr"


def test_the_gradient_is_clipped_to_its_global_norm():
    arrays, norms = made(), {}
    for limit in (0.0, 1e-3):
        trainer = trainer_of(change(BASE, clip_norm=limit), arrays, 0, (1, 1))

        def note(optimizer, *_, limit=limit):
            weights = optimizer.param_groups[0]["params"]
            norms[limit] = torch.cat([weight.grad.ravel() for weight in weights]).norm().item()

        trainer.optimizer.register_step_pre_hook(note)
        trainer.step((trainer.feed.batch(trainer.train_picks), 1.0), Position())
    assert norms[0.0] > 0.01
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_a_recipe_that_predicts_nothing_is_refused():
    with pytest.raises(UserError, match="bag"):
        change(BASE, bag=0)


def test_reverse_tta_is_unreversed():
    arrays = made()
    feed = make_feed(BASE, arrays, 0, CPU)

    class Echo(torch.nn.Module):
        def forward(self, batch):
            return (batch.features[0][..., :2],)

    class Place(torch.nn.Module):
        def forward(self, batch):
            return (torch.arange(batch.mask.shape[1]).float()[None, :, None].expand(len(batch.mask), -1, 2),)

    picks, amp = whole(arrays.start, arrays.stop), autocast("fp32", CPU)
    expected = 1 / (1 + np.exp(-arrays.embeddings["net"][0][:, :2].astype(np.float32)))
    np.testing.assert_allclose(predict(Echo(), feed, picks, amp, True), expected, atol=1e-6)
    length = np.repeat(arrays.stop - arrays.start, arrays.stop - arrays.start)
    place = np.arange(len(length)) - np.repeat(arrays.start, arrays.stop - arrays.start)
    both = (1 / (1 + np.exp(-place)) + 1 / (1 + np.exp(-(length - 1 - place)))) / 2
    np.testing.assert_allclose(predict(Place(), feed, picks, amp, True)[:, 0], both, atol=1e-6)


def logged(folder, name="loss"):
    """Steps and values of ``name`` in the log of fold 0."""
    table = pd.read_csv(folder / "fold0_log" / "figures.csv")
    table = table[table["name"] == name]
    return table["step"].tolist(), table["value"].tolist()


def test_loss_rate_speed_and_waiting_are_logged_from_the_first_step_to_the_last(tmp_path):
    recipe, lines = change(BASE, epochs=3, lr=2e-3, gamma=0.5), []
    fit_fold(recipe, made(), 0, (1, 1), tmp_path, "cpu", lines.append)
    steps, rates = logged(tmp_path, "lr")
    assert steps == list(range(1, 10)) and rates == pytest.approx([2e-3] * 3 + [1e-3] * 3 + [5e-4] * 3)
    assert np.isfinite(logged(tmp_path)[1]).all() and min(logged(tmp_path, "images/s")[1]) > 0
    assert 0 < logged(tmp_path, "waiting")[1][-1] < 1 and list((tmp_path / "fold0_log").glob("events.*"))
    assert len(lines) == 1 and lines[0].startswith("train: 9/9, done after ") and "lr 0.0005" in lines[0]


@pytest.mark.parametrize("kind", TINY)
def test_a_killed_run_ends_with_the_same_bits(kind, tmp_path, monkeypatch):
    recipe = replace(BASE, model=replace(TINY[kind], dropout=0.3), epochs=4, bag=3, crop=8, reverse=0.5)
    arrays = made()

    def killed_after_two(loop, at):
        save(loop, at)
        if at.stretch == 2:
            raise KeyboardInterrupt

    save = Loop.save
    whole_run = fit_fold(recipe, arrays, 0, (1, 1), tmp_path / "whole", "cpu", lambda _: None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Loop, "save", killed_after_two)
        fit_fold(recipe, arrays, 0, (1, 1), tmp_path / "cut", "cpu", lambda _: None)
    lines = []
    resumed = fit_fold(recipe, arrays, 0, (1, 1), tmp_path / "cut", "cpu", lines.append)
    assert "going on at epoch 2 step 0" in lines[0] and len(lines) == 2
    steps, _ = logged(tmp_path / "whole")
    assert logged(tmp_path / "cut")[0] == steps == sorted(steps), "the log of a resumed run has each step once"
    same(resumed, whole_run, tmp_path)


@pytest.mark.parametrize("kind", TINY)
@pytest.mark.parametrize("steps", [1, 7])
def test_stopped_within_an_epoch_it_ends_with_the_same_bits(kind, steps, tmp_path, monkeypatch):
    recipe = replace(BASE, model=replace(TINY[kind], dropout=0.3), crop=8, reverse=0.5)
    arrays, done = made(), []

    def stop(self, *args):
        done.append(1)
        if len(done) > steps:
            raise KeyboardInterrupt
        return step(self, *args)

    step = Trainer.step
    whole_run = fit_fold(recipe, arrays, 0, (1, 1), tmp_path / "whole", "cpu", lambda _: None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", stop)
        fit_fold(recipe, arrays, 0, (1, 1), tmp_path / "cut", "cpu", lambda _: None, checkpoint_seconds=0)
    lines = []
    resumed = fit_fold(recipe, arrays, 0, (1, 1), tmp_path / "cut", "cpu", lines.append)
    epoch, step_of_it = divmod(steps, 3)
    assert lines[0] == f"going on at epoch {epoch} step {step_of_it}"
    same(resumed, whole_run, tmp_path)


def same(resumed, whole_run, folder):
    """Losses, predictions and weights of the runs in ``cut`` and ``whole`` are equal bit for bit."""
    assert resumed.losses == whole_run.losses
    np.testing.assert_array_equal(resumed.predictions, whole_run.predictions)
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole_run.weights.items())
    cut, whole = (weights_in(checkpoint_path(folder / name, 0)) for name in ("cut", "whole"))
    assert all(torch.equal(cut[name], value) for name, value in whole.items())


def weights_in(path):
    return torch.load(path, weights_only=True)["learner"]["model"]


def test_a_checkpoint_of_other_work_is_not_taken_up_and_a_broken_one_is_named(tmp_path):
    recipe, arrays, lines = change(BASE, epochs=1), made(), []
    fit_fold(recipe, arrays, 0, (1, 1), tmp_path, "cpu", lines.append)
    fit_fold(recipe, arrays, 0, (1, 1), tmp_path, "cpu", lines.append)
    assert len(lines) == 3 and "going on" in lines[1], "finished work is kept"
    arrays.embeddings["net"][0][:] += 1
    fit_fold(recipe, arrays, 0, (1, 1), tmp_path, "cpu", lines.append)
    fit_fold(change(recipe, lr=1e-4), arrays, 0, (1, 1), tmp_path, "cpu", lines.append)
    fit_fold(change(recipe, lr=1e-4), arrays, 0, (1, 2), tmp_path, "cpu", lines.append)
    assert [line.rpartition(", ")[2] for line in lines[3::2]] == ["starting anew"] * 3
    assert all(line.startswith("train: 3/3, done") for line in lines[4::2])
    path = checkpoint_path(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:1000])
    fit_fold(change(recipe, lr=1e-4), arrays, 0, (1, 2), tmp_path, "cpu", lines.append)
    assert "fold0.checkpoint cannot be read" in lines[9], "and the one before is taken up"
    assert "going on at epoch 0 step 0" in lines[10]


def test_bag_averages_the_last_epochs(tmp_path, monkeypatch):
    seen = []
    true = Trainer.predict
    monkeypatch.setattr(Trainer, "predict", lambda *args: seen.append(true(*args)) or seen[-1])
    fitted = fit_fold(change(BASE, epochs=4, bag=2), made(), 0, (1, 1), tmp_path, "cpu", lambda _: None)
    assert len(seen) == 2
    arrays = made()
    wanted = (arrays.fold == 0) | arrays.is_test
    np.testing.assert_allclose(fitted.predictions, ((seen[0] + seen[1]) / 2)[~arrays.is_test[wanted]], rtol=1e-6)


@pytest.mark.parametrize("kind", TINY)
def test_a_bad_series_is_skipped_and_said_and_too_many_stop_the_run(kind, tmp_path, monkeypatch):
    base = replace(BASE, model=TINY[kind])
    arrays, lines = made(), []
    first = arrays.start[1]
    arrays.embeddings["net"][0][first] = np.inf
    fitted = fit_fold(change(base, epochs=1, batch_size=1), arrays, 0, (1, 1), tmp_path, "cpu", lines.append)
    assert "step skipped" in lines[0] and f"not finite at index row {first}" in lines[0]
    assert np.isfinite(fitted.predictions).all() and np.isfinite(fitted.losses).all()
    arrays.embeddings["net"][0][arrays.fold > 0] = np.nan
    monkeypatch.setattr(train, "BAD_STEPS", 3)
    with pytest.raises(UserError, match="use --set precision=fp32 or a lower lr"):
        fit_fold(change(base, batch_size=1), arrays, 0, (1, 1), tmp_path / "bad", "cpu", lambda _: None)
    with pytest.raises(UserError, match="no finite step"):
        fit_fold(change(base, batch_size=100), arrays, 0, (1, 1), tmp_path / "bad", "cpu", lambda _: None)
    arrays = made()
    arrays.embeddings["net"][0][arrays.is_test] = np.inf
    with pytest.raises(UserError, match="predictions are not finite"):
        fit_fold(base, arrays, 0, (1, 1), tmp_path / "test", "cpu", lambda _: None)


def test_the_first_weights_follow_seed_and_fold_alone():
    def first(seed, fold, outside):
        torch.manual_seed(outside)
        return trainer_of(change(BASE, seed=seed), made(), fold, (1, 1)).model.head.weight
    assert torch.equal(first(0, 0, 1), first(0, 0, 2))
    assert not torch.equal(first(0, 0, 1), first(1, 0, 1)) and not torch.equal(first(0, 0, 1), first(0, 1, 1))


def test_the_callers_random_state_is_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fit_fold(change(BASE, epochs=1), made(), 0, (1, 1), tmp_path, "cpu", lambda _: None)
    assert torch.equal(torch.rand(1), expected)


def shuffled(arrays, seed=1):
    """The same with labels that nothing says anything about."""
    labels = arrays.labels.copy()
    known = arrays.fold >= 0
    labels[known] = np.random.default_rng(seed).permutation(labels[known])
    return replace(arrays, labels=labels)


def test_training_ends_by_patients_that_are_held_out_inside_the_training_rows(tmp_path):
    recipe, said = replace(BASE, lr=1e-2, epochs=6, bag=2, inner=2), []
    arrays = made(series=60)
    learned = fit_fold(recipe, arrays, 0, (1, 2), tmp_path / "a", "cpu", said.append)
    nothing = fit_fold(recipe, shuffled(arrays), 0, (1, 2), tmp_path / "b", "cpu", said.append)
    assert len(learned.losses) > len(nothing.losses) >= 1  # by heart is all that can be learned of shuffled labels
    lines = [line for line in said if "patients held out in training" in line]
    assert lines == [f"base ends after {len(one.losses)} of 6 epochs, by patients held out in training"
                     for one in (learned, nothing)]
    as_many = replace(recipe, inner=0, epochs=len(learned.losses))
    fixed = fit_fold(as_many, arrays, 0, (1, 2), tmp_path / "c", "cpu", said.append)
    assert np.array_equal(fixed.predictions, learned.predictions)


def test_the_scored_fold_has_no_say_in_when_training_ends():
    arrays, recipe = made(series=30), replace(BASE, lr=1e-2, epochs=3, inner=2)
    other = arrays.labels.copy()
    other[arrays.fold == 0] = 1 - other[arrays.fold == 0]
    ends = [train.ending(recipe, one, 0, (1, 2), make_feed(recipe, one, 0, CPU), str)
            for one in (arrays, replace(arrays, labels=other))]
    assert ends[0] == ends[1]


def test_of_several_processes_the_first_says_when_training_ends(monkeypatch):
    monkeypatch.setattr(train, "same_everywhere", lambda value: value + 40.0, raising=False)
    recipe = replace(BASE, lr=1e-2, epochs=2, inner=2)
    arrays = made(series=30)
    assert train.ending(recipe, arrays, 0, (1, 2), make_feed(recipe, arrays, 0, CPU), str) in (41, 42)


@pytest.mark.parametrize("series", [4, 60])
def test_what_ended_early_is_applied_as_it_was_scored(series, tmp_path):
    """Also where one patient alone is learned from, who cannot be held out."""
    arrays = made(series=60)
    if series == 4:
        arrays = replace(arrays, fold=np.where(arrays.fold > 0, np.where(arrays.group == "patient1", 1, 0), arrays.fold))
    recipe = replace(BASE, lr=1e-2, epochs=4, bag=3, inner=3)
    fitted = fit_fold(recipe, arrays, 0, (1, 2), tmp_path, "cpu", lambda _: None)
    new = replace(arrays, fold=np.full_like(arrays.fold, -1))
    again = train.apply_fold(recipe, new, 0, fitted.weights, CPU, (1, 2))
    assert np.allclose(again[fitted.rows], fitted.predictions, atol=1e-6)  # series share other batches here


def test_one_part_cannot_be_held_out():
    with pytest.raises(UserError, match="inner is 1"):
        replace(BASE, inner=1)
