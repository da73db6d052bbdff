"""Shift: whether a set of pictures was taken as the training pictures were, by what the headers say.

A classifier learns to tell the two sets apart from acquisition facts, one row a series. Where it cannot, scores out of fold
should hold for the new set as far as acquisition goes; where it can, the facts that give a set away are named (classifier
two-sample test, Lopez-Paz and Oquab 2017).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from radstack.report.blocks import Block, Figures, Heading, Table, Words
from radstack.report.evidence import Evidence
from radstack.scoring.intervals import Interval

USUAL = ("rows", "columns", "height", "width", "slices", "spacing_row", "spacing_column", "spacing_slice", "thickness",
         "kernel", "manufacturer", "scanner", "kvp", "tilt", "bits", "bits_stored", "channels", "pixel_representation",
         "photometric", "intercept", "slope", "padding", "window_center", "window_width", "transfer_syntax", "order_flag")
"""Columns that are facts where a table has them; a competition names more (``acquisition`` of its ``Pages``)."""
MOST = 3000
"""Series of each set that are drawn at random by a fixed seed where there are more."""
LEAST = 10
"""Patients of each set below which nothing can be said."""
FOLDS, DRAWS, SHUFFLES = 5, 500, 3
"""Folds by patient; draws of the bootstrap over patients; shuffles of a fact in a fold."""
WIDER = float(np.sqrt(1 + FOLDS / (FOLDS - 1)))
"""How much wider than the bootstrap's the interval is, since folds share what they learn from (Nadeau and Bengio 2003)."""
LEVELS = 40
"""Words of one fact that are told apart; rarer ones count as one."""
TELLING = 0.02
"""Loss of AUC by shuffling from which on a fact is named."""
SLIGHT, STRONG = 0.65, 0.9
"""AUC above which two sets differ clearly, and above which they are hardly alike."""
Ranks = tuple[np.ndarray, np.ndarray]
"""Row numbers of one fold, and the ranks of their answers: models of unlike folds are not compared."""


@dataclass(frozen=True)
class Shift:
    """What tells a new set from the training set."""

    auc: Interval
    """Out of fold, of series; 95 % over patients. 0.5: nothing tells them apart."""
    facts: pd.DataFrame
    """``fact``, ``training``, ``new`` (in words), ``shuffled`` (loss of AUC), ``alone`` (AUC of a small tree on it, out of
    fold), ``unseen`` (share of the new series whose value training does not have); the most telling first."""
    series: tuple[int, int]
    """Compared ones of either set."""
    same: tuple[str, ...]
    """Facts with one value everywhere."""

    @property
    def telling(self) -> list[str]:
        """The facts that give the new set away, at most three."""
        named = self.facts[self.facts["shuffled"] >= TELLING]
        return list((named if len(named) else self.facts.nlargest(1, "alone"))["fact"][:3])


def facts_of(rows: pd.DataFrame, own: tuple[str, ...] = (), most: int = MOST) -> pd.DataFrame:
    """Acquisition facts, one row a series; small enough to be kept with a trained solution.

    Args:
        rows: index or localization rows: ``series``, ``group``, and of ``USUAL`` and ``own`` what there is.
        own: further columns that are facts.
        most: series that are drawn by a fixed seed where there are more.

    Returns:
        ``group`` and the facts: the median of numbers, the first of words; ``slices`` is counted where it is not a column
        and some series has several, and ``spacing_slice`` (mm) is taken from ``z`` where it is not a column.
    """
    codes, names = pd.factorize(rows["series"])
    if len(names) > most:
        chosen = np.zeros(len(names), bool)
        chosen[np.random.default_rng(0).choice(len(names), most, replace=False)] = True
        rows, codes = rows[chosen[codes]], codes[chosen[codes]]
    columns = [name for name in dict.fromkeys((*USUAL, *own)) if name in rows]
    numbers = [name for name in columns if pd.api.types.is_numeric_dtype(rows[name])]
    grouped = rows[["group", *columns]].astype(dict.fromkeys(numbers, float)).groupby(codes, sort=True)
    facts = grouped[["group", *(name for name in columns if name not in numbers)]].first()
    facts = facts.join(grouped[numbers].median()) if numbers else facts
    count = grouped.size()
    if "slices" not in facts and (count > 1).any():
        facts["slices"] = count.astype(float)
    if "spacing_slice" not in facts and "z" in rows and (count > 1).any():
        z = rows["z"].astype(float).groupby(codes, sort=True)
        facts["spacing_slice"] = (z.max() - z.min()) / (count - 1).where(count > 1)
    return facts.reset_index(drop=True)


def shift(training: pd.DataFrame, new: pd.DataFrame) -> Shift | None:
    """Compare two sets by the facts that both have; None where one has fewer than ``LEAST`` patients, or no fact varies.

    Args:
        training: :func:`facts_of` the training rows.
        new: :func:`facts_of` the others.
    """
    names = [name for name in training if name in new and name != "group"]
    both = pd.concat([training, new], ignore_index=True).replace([np.inf, -np.inf], np.nan)
    is_new = np.arange(len(both)) >= len(training)
    coded = {name: _coded(both[name]) for name in names}
    varied = _distinct({name: values for name, values in coded.items() if len(np.unique(values[~np.isnan(values)])) > 1
                        or 0 < np.isnan(values).sum() < len(values)})
    if min(training["group"].nunique(), new["group"].nunique()) < LEAST or not varied:
        return None
    x = np.column_stack([coded[name] for name in varied])
    words = np.array([not pd.api.types.is_numeric_dtype(both[name]) for name in varied])
    score, shuffled, alone = _tell_apart(x, is_new, both["group"].to_numpy(), words)
    facts = pd.DataFrame([{
        "fact": " = ".join([name, *twins]), "training": in_words(training[name]), "new": in_words(new[name]),
        "unseen": unseen(training[name], new[name])} for name, twins in varied.items()])
    facts = facts.assign(shuffled=shuffled, alone=alone)[["fact", "training", "new", "shuffled", "alone", "unseen"]]
    return Shift(score, facts.sort_values(["shuffled", "alone"], ascending=False, ignore_index=True),
                 (len(training), len(new)), tuple(name for name in names if name not in varied
                                                  and not any(name in twins for twins in varied.values())))


def _coded(values: pd.Series) -> np.ndarray:
    """Numbers as float64; words as codes by frequency, the rarest together."""
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(np.float64)
    ordered = values.fillna("").astype(str).value_counts().index
    return np.minimum(ordered.get_indexer(pd.Index(values.fillna("").astype(str))), LEVELS).astype(np.float64)


def _distinct(coded: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """Facts -> others that say the same in other numbers, such as the spacing of square pixels along both axes."""
    found: dict[str, list[str]] = {}
    patterns: dict[bytes, str] = {}
    for name, values in coded.items():
        first = patterns.setdefault(_pattern(values), name)
        found.setdefault(first, []).extend([] if first == name else [name])
    return found


def _pattern(values: np.ndarray) -> bytes:
    """Alike for facts that go together one to one: by equal values where each occurs often, else by their order."""
    codes, known = pd.factorize(values, use_na_sentinel=False)
    return (codes if len(known) <= len(values) / 5 else _rank(values)).astype(np.int64).tobytes()


def _tell_apart(x: np.ndarray, is_new: np.ndarray, group: np.ndarray,
                words: np.ndarray) -> tuple[Interval, np.ndarray, np.ndarray]:
    """AUC, its loss by shuffling each fact, and each fact's AUC alone (both float [facts]); all out of fold, by patient."""
    from sklearn.model_selection import StratifiedGroupKFold

    dealt = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(x, is_new, group)
    looks = [(held, *_held_out(x, is_new, fit, held, words)) for fit, held in dealt]

    def auc(kind: int, *which: int) -> float:
        return _auc([(look[0], _rank(look[kind][which])) for look in looks], is_new)

    facts, score = range(x.shape[1]), auc(1)
    lost = [score - np.mean([auc(2, fact, turn) for turn in range(SHUFFLES)]) for fact in facts]
    ranks = [(held, _rank(plain)) for held, plain, _, _ in looks]
    return _interval(ranks, is_new, group), np.array(lost), np.array([auc(3, fact) for fact in facts])


def _held_out(x: np.ndarray, is_new: np.ndarray, fit: np.ndarray, held: np.ndarray,
              words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers of a model of the rows ``fit`` for the rows ``held``.

    Returns:
        As they are [held]; with each fact shuffled [facts, SHUFFLES, held]; by small trees that know one fact [facts, held].
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.tree import DecisionTreeClassifier
    from threadpoolctl import threadpool_limits

    random, facts, own = np.random.default_rng(0), x.shape[1], x[held]
    model = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=8, min_samples_leaf=10, l2_regularization=1.0,
                                           categorical_features=words, early_stopping=False, random_state=0)
    mixed = np.tile(own, (facts, SHUFFLES, 1, 1))
    for fact in range(facts):
        mixed[fact, :, :, fact] = [random.permutation(own[:, fact]) for _ in range(SHUFFLES)]
    tree, alone = DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=10, random_state=0), np.empty((facts, len(own)))
    for fact in range(facts):
        alone[fact] = tree.fit(x[fit][:, [fact]], is_new[fit]).predict_proba(own[:, [fact]])[:, 1]
    with threadpool_limits(1):  # of so few rows, threads that wait for each other take far longer where other programs run
        model.fit(x[fit], is_new[fit])
        shuffled = model.predict_proba(mixed.reshape(-1, facts))[:, 1].reshape(facts, SHUFFLES, -1)
        return model.predict_proba(own)[:, 1], shuffled, alone


def _rank(scores: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties alike."""
    return np.unique(scores, return_inverse=True)[1]


def _auc(ranks: list[Ranks], is_new: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Share of the pairs of one series of either set, within folds, that are ordered rightly; ties count half."""
    won = pairs = 0.0
    weights = np.ones(len(is_new)) if weights is None else weights
    for rows, rank in ranks:
        new, old = (np.bincount(rank, weights[rows] * (is_new[rows] == side), rank.max() + 1) for side in (True, False))
        won += float(new @ (np.cumsum(old) - old / 2))
        pairs += float(new.sum() * old.sum())
    return won / pairs if pairs else float("nan")


def _interval(ranks: list[Ranks], is_new: np.ndarray, group: np.ndarray) -> Interval:
    """AUC with its 95 % interval by a bootstrap over patients, made ``WIDER``."""
    random, codes = np.random.default_rng(0), pd.factorize(group)[0]
    count = codes.max() + 1
    drawn = [_auc(ranks, is_new, np.bincount(random.integers(count, size=count), minlength=count)[codes].astype(float))
             for _ in range(DRAWS)]
    value = _auc(ranks, is_new)
    low, high = np.clip(value + WIDER * (np.nanquantile(drawn, [0.025, 0.975]) - value), 0, 1)
    return Interval(value, float(low), float(high))


def unseen(training: pd.Series, new: pd.Series) -> float:
    """Share of ``new`` that lies outside the range of ``training``, or is a word that it lacks."""
    if pd.api.types.is_numeric_dtype(training) and pd.api.types.is_numeric_dtype(new):
        outside = (new < training.min()) | (new > training.max())
        return float((outside | (new.notna() & training.isna().all())).mean())
    return float((~new.fillna("").isin(training.fillna("").unique())).mean())


def in_words(values: pd.Series) -> str:
    """A fact's values in one set: median and the middle 90 %, or the commonest with their shares."""
    missing = f", {values.isna().mean():.0%} missing" if values.isna().any() else ""
    known = values.dropna()
    if known.nunique() > 3 and pd.api.types.is_numeric_dtype(values):
        low, middle, high = known.quantile([0.05, 0.5, 0.95])
        return f"{middle:.4g} ({low:.4g} to {high:.4g}){missing}"
    shares = known.map(lambda one: f"{one:.4g}" if isinstance(one, float) else str(one) or "none")
    counts = shares.value_counts(normalize=True)[:3]
    return ", ".join(f"{name} {share:.0%}" for name, share in counts.items()) + missing if len(known) else "none known"


def sentence(found: Shift, training: str = "training", new: str = "test") -> tuple[str, str]:
    """What a shift means, in words, and the tone of the block that says it."""
    auc, named = found.auc, " and ".join(found.telling)
    if auc.low <= 0.5:
        return (f"Nothing in the headers tells {new} from {training}: a classifier of acquisition facts does no better than "
                f"chance (AUC {auc.value:.2f}, {auc.low:.2f} to {auc.high:.2f}; 0.5 is chance). As far as acquisition goes, "
                f"scores out of fold should hold for {new}."), "good"
    size = ("differ a little" if auc.value < SLIGHT else "differ" if auc.value < STRONG else "are hardly alike")
    sure = f"AUC {auc.value:.2f}, {auc.low:.2f} to {auc.high:.2f}; 0.5 is chance, 1 is certain"
    what = ("Scores out of fold may be a little off there." if auc.value < SLIGHT else
            f"Scores out of fold may not hold for {new}: see how the models do on training series that look like it, and "
            "whether cropping and windows treat these values alike.")
    return f"By their headers {training} and {new} {size} ({sure}). {named} gives {new} away. {what}", (
        "" if auc.value < SLIGHT else "warn")


def blocks_of(training: pd.DataFrame, new: pd.DataFrame, name: str = "test") -> Iterator[Block]:
    """The report of a shift from training facts to those of the set ``name`` (both from :func:`facts_of`)."""
    yield Heading(f"Shift from training to {name}")
    found = shift(training, new)
    if found is None:
        yield Words(f"No shift is measured: it takes {LEAST} patients of either set and a fact that varies.")
        return
    words, tone = sentence(found, new=name)
    yield Words(words, tone)
    auc = found.auc
    yield Figures({"AUC of the classifier": (f"{auc.value:.3f}", f"{auc.low:.3f} to {auc.high:.3f}; chance is 0.5"),
                   "series compared": (f"{sum(found.series):,}",
                                       f"training {found.series[0]:,}, {name} {found.series[1]:,}")})
    same = f" The same everywhere: {', '.join(found.same)}." if found.same else ""
    formats: dict[str, Any] = {"shuffled": "+.3f", "alone": ".3f", "unseen": ".1%"}
    yield Table(found.facts.rename(columns={"new": name}), f"Acquisition facts of a series in training and in {name}, the "
                "most telling first", formats, "Shuffled: how much AUC is lost when the fact is shuffled among the held-out "
                "series; alone: AUC of a small tree that knows only this fact; unseen: share of series whose value lies "
                f"outside of training's. Out of fold, in {FOLDS} folds by patient.{same}")


def shift_of_test(evidence: Evidence) -> Iterator[Block]:
    """The report of the shift from training to test; nothing where there is no test set."""
    rows, own = evidence.localized, evidence.context.competition.pages.acquisition
    training, test = (rows[rows["split"] == split] for split in ("train", "test"))
    if len(training) and len(test):
        yield from blocks_of(facts_of(training, own), facts_of(test, own))
