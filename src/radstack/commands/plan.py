"""The budget before the spending: disk, memory, hours a stage and in all, and the hidden test set against nine hours."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from radstack.commands import rates
from radstack.commands.cards import rows_of
from radstack.commands.environment import GIGA
from radstack.commands.past import (
    NO_RUN,
    SECONDS,
    UNKNOWN,
    Line,
    Past,
    known_sum,
    lacking_of,
    past_run,
    small_run,
    sum_known,
)
from radstack.commands.prerequisites import cache_of, existing
from radstack.commands.products import input_there
from radstack.commands.rates import (
    ESTIMATE,
    Rate,
    Rows,
    alike,
    crowded,
    known_rate,
    machine_of,
    read_files,
    short_run,
    short_sequence,
)
from radstack.core.errors import UserError
from radstack.recipes.experiment import Experiment
from radstack.recipes.sequence import Sequence
from radstack.running.context import Context
from radstack.running.device import device_of
from radstack.running.tables import read_index, read_rows
from radstack.stages.apply import needed
from radstack.stages.predict import embeddings_wanted
from radstack.training.loader import epoch_order, training_rows

LIMIT = 9.0
"""Hours that a notebook of a code competition has at Kaggle."""
FLOAT = 4
"""Bytes of a number in a weights file or a table of predictions."""
HALF = 2
"""Bytes of a number in a table of embeddings."""
CHECKPOINT = 4
"""A checkpoint over its weights: network, two moments of Adam, average."""
AHEAD = 3
"""Batches that a worker of the loader holds: one it makes, two that wait."""


@dataclass(frozen=True)
class Size:
    """How many pictures there are."""

    train: int
    test: int
    a_series: float
    """Pictures of a series."""
    said: str
    """Who counted them."""


@dataclass(frozen=True)
class Plan:
    """What is printed."""

    machine: str
    gpus: int
    size: Size
    rates: dict[str, Rate]
    """Recipe -> its rate; without those whose rate is not known."""
    recipes: list[Line]
    """Hours of each network and sequence model: training and predicting, all folds."""
    stages: list[Line]
    disk: list[Line]
    memory: list[Line]
    hidden: list[Line]
    hidden_rows: int


def plan(context: Context, machine: str = "", rows: tuple[int, ...] = (), hidden: int = 0) -> None:
    """Print the plan for ``machine`` (this one unless one is named), for so many ``rows`` (train, test).

    Raises:
        UserError: the number of pictures is not known, there are no rates of the machine, or there is no GPU for ``--gpus``.
    """
    print("\n".join(written(context, make_plan(context, machine, rows, hidden))))


def make_plan(context: Context, machine: str = "", rows: tuple[int, ...] = (), hidden: int = 0) -> Plan:
    """See :func:`plan`."""
    size, files = counted(context, rows), read_files(rates.FOLDER)
    device = torch.device(device_of(context.options.device))
    here = machine_of(device)
    machine, known = rows_of(files, machine or here, here)
    if context.options.gpus > 1 and machine == here and device.type != "cuda":
        raise UserError(f"--gpus {context.options.gpus}: there is no GPU here; name a machine with --machine, one of "
                        f"{', '.join(files) or 'none measured'}")
    past = past_run(context)
    experiments = (*_to_learn(context, past), *context.experiments)
    found = all_rates(context, experiments, known, size, device if machine == here else None)
    budget = Budget(context, size, found)
    hidden = hidden or size.test
    return Plan(machine, context.options.gpus, size, found, list(budget.recipes()), list(stages(budget, past)),
                list(disk(budget)), list(memory(budget)), list(applied(budget, past, hidden)), hidden)


def counted(context: Context, given: tuple[int, ...]) -> Size:
    """The pictures: as given, as stage 01 counted them, or as the organizer ships them."""
    data, index = context.competition.data, context.paths.folds / "index.parquet"
    if given:
        if len(given) != 2:
            raise UserError("--rows takes two numbers, training and test pictures, as --rows 10000,2000")
        return Size(*given, data.a_series, "as given")
    if index.exists():
        table = read_index(context)
        series = table["series"].nunique() if "series" in table else len(table)
        return Size(int((table["split"] == "train").sum()), int((table["split"] == "test").sum()),
                    len(table) / max(series, 1), "as stage 01 counted them")
    if not data.rows[0]:
        raise UserError("how many pictures there are is known after stage 01; run "
                        f"{context.command('01_make_folds')}, or give --rows TRAIN,TEST")
    return Size(*data.rows, data.a_series, "as the organizer ships them")


def _to_learn(context: Context, past: Past) -> list[Experiment]:
    """The networks of stage 02 where its time follows from theirs: no run tells it, and stage 01 counted annotations."""
    if not math.isnan(past.line("02_localize", 1).amount) or not (context.paths.folds / "index.parquet").exists():
        return []
    return [one for one in context.competition.localizer.networks if isinstance(one, Experiment)]


def all_rates(context: Context, experiments: tuple[Experiment, ...], known: Rows, size: Size,
              device: torch.device | None) -> dict[str, Rate]:
    """Recipe -> rate of ``experiments`` and the chosen sequence models.

    From the ``known`` rows of a machine, of the recipe or of one that costs the same, else by a short run on ``device``,
    where there is one.
    """
    competition, found = context.competition, dict[str, Rate]()
    models = competition.models
    same_cost = {alike(other, len(other.targets_of(competition.targets))): rate
                 for other in (*models.on_call, *models.experiments)
                 if (rate := known_rate(known, competition.name, other))}
    targets = {step.experiment.name: step.targets for step in getattr(competition.localizer, "steps", ())}
    tried = dict[str, Rate]()
    for one in experiments:
        rate = known_rate(known, competition.name, one)
        answers = targets.get(one.name) or one.targets_of(competition.targets)
        rate = rate or same_cost.get(alike(one, len(answers)))
        if rate is None and device is not None:
            same = alike(one, len(answers))
            if same not in tried:
                if not tried and device.type == "cpu" and (words := crowded()):
                    print(f"  {words}", flush=True)
                print(f"  a short run of {one.name}", flush=True)
                tried[same] = short_run(one, answers, device)
            rate = tried[same]
        if rate is not None:
            found[one.name] = rate
    for sequence in context.sequences:
        rate = known_rate(known, competition.name, sequence)
        widths = [found[name].width for name in sequence.members if name in found]
        if rate is None and device is not None and len(widths) == len(sequence.members):
            print(f"  a short run of {sequence.name}", flush=True)
            rate = short_sequence(sequence, widths, competition.metric.weights, max(round(size.a_series), 2), device)
        if rate is not None:
            found[sequence.name] = rate
    return found


@dataclass(frozen=True)
class Budget:
    """A competition, its size and the rates of its recipes; hours and bytes follow."""

    context: Context
    size: Size
    rates: dict[str, Rate]

    @property
    def folds(self) -> int:
        """Their number."""
        return self.context.competition.folds.count

    @property
    def models(self) -> list[Experiment | Sequence]:
        """The chosen networks, then the chosen sequence models."""
        return [*self.context.experiments, *self.context.sequences]

    def visits(self, one: Experiment) -> float:
        """Pictures of an epoch. Before stage 03 ``sampling.keep`` keeps all, and copies of rare classes are not counted."""
        if (self.context.paths.cache / "rows.parquet").exists():
            rows, fold = read_rows(self.context, "train")
            candidates = training_rows(rows, fold, 0, one.sampling.keep)
            return float(len(epoch_order(one.sampling, candidates, rows, (0, 0, 0))))
        rows = self.size.train * (1 - 1 / self.folds)
        few = one.sampling.per_series / self.size.a_series if one.sampling.per_series else 1.0
        return rows * few * one.sampling.copies

    def training(self, one: Experiment | Sequence) -> float:
        """Hours of training on all chosen folds; NaN without a rate."""
        rate, folds = self.rates.get(one.name), len(self.context.folds_of(one))
        if rate is None:
            return math.nan
        if isinstance(one, Sequence):
            return self._hours(self.size.train / self.size.a_series * (1 - 1 / self.folds) * one.epochs * folds, rate.train)
        if one.probe:  # looks at each row once, by one view and on one card
            return self.context.options.gpus * self._hours(self.visits(one) * folds / len(one.tta), rate.predict)
        return self._hours(self.visits(one) * one.train.epochs * folds * one.train.seeds, rate.train)

    def predicting(self, one: Experiment | Sequence) -> float:
        """Hours of predicting training rows out of fold (all rows by each fold where embeddings are kept) and test rows."""
        further = 0.0
        if isinstance(one, Experiment) and embeddings_wanted(self.context, one.name):
            # Of several networks a fold, the first one's embeddings are kept.
            further = self.size.train * (1 - 1 / self.folds) / one.networks
        return self.applying(one, self.size.train / self.folds + further + self.size.test)

    def applying(self, one: Experiment | Sequence, rows: float) -> float:
        """Hours in which the networks of all chosen folds predict ``rows`` pictures each."""
        rate = self.rates.get(one.name)
        if rate is None:
            return math.nan
        looks = 1 / self.size.a_series if isinstance(one, Sequence) else one.networks  # at a picture, or at its series
        return self._hours(rows * looks * len(self.context.folds_of(one)), rate.predict)

    def _hours(self, pictures: float, rate: float) -> float:
        return pictures / rate / SECONDS / self.context.options.gpus

    def recipes(self) -> Iterator[Line]:
        """Hours of each recipe with the source of its rate."""
        for one in self.models:
            yield Line(one.name, self.training(one) + self.predicting(one), self.words([one]))

    def words(self, models: list[Any]) -> str:
        """``measured``, ``estimate``, or how many are what, with the sources of a single one."""
        rates = [self.rates.get(one.name) for one in models]
        if len(rates) == 1:
            return f"{rates[0].how}: {rates[0].source}" if rates[0] else f"{UNKNOWN}: not measured on this machine"
        kinds = [rate.how if rate else UNKNOWN for rate in rates]
        return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def stages(budget: Budget, past: Past) -> Iterator[Line]:
    """Hours of each stage."""
    context, rows = budget.context, budget.size.train + budget.size.test
    yield (Line("00_get_data", 0.0, "is there") if input_there(context) else
           Line("00_get_data", math.nan, f"as long as {context.competition.data.disk / GIGA:,.0f} GB take to arrive"))
    yield past.line("01_make_folds", rows)
    yield _localizing(budget, past, rows)
    yield past.line("03_cache", rows)
    networks, sequences = context.experiments, context.sequences
    yield Line("04_train", known_sum(map(budget.training, networks)), budget.words(networks))
    yield Line("05_predict", known_sum(map(budget.predicting, networks)), budget.words(networks))
    if sequences:
        hours = known_sum(budget.training(one) + budget.predicting(one) for one in sequences)
        yield Line("06_sequence", hours, budget.words(list(sequences)))
    yield from (past.line(name, rows) for name in ("07_stack", "08_submit", "09_report"))


def _localizing(budget: Budget, past: Past, rows: int) -> Line:
    """Stage 02: from an earlier run, else what its networks alone take, where it is known who is annotated."""
    line, context = past.line("02_localize", rows), budget.context
    networks = _to_learn(context, past)
    if not networks:
        return line
    index = read_index(context)
    annotated = context.competition.localizer.annotated(index[index["split"] == "train"])
    hours = sum(replace(budget, size=replace(budget.size, train=int(annotated[one.name].sum()))).training(one)
                + budget.applying(one, budget.size.train / budget.folds + budget.size.test) for one in networks)
    return Line(line.name, hours, f"networks alone ({budget.words(networks)}), decoding is not counted")


def disk(budget: Budget) -> Iterator[Line]:
    """Bytes that a whole run needs, folder by folder."""
    context, size = budget.context, budget.size
    rows = size.train + size.test
    yield Line("input", float(context.competition.data.disk), "as the organizer's archive, unpacked")
    yield Line("cache", float(sum(cache_of(context.competition, rows))), "pictures, and what stage 02 keeps")
    known = [one for one in budget.models if one.name in budget.rates]
    lacking = f"; {len(budget.models) - len(known)} {UNKNOWN}" if len(known) < len(budget.models) else ""
    largest = max((budget.rates[one.name].parameters for one in known), default=math.nan) * FLOAT * CHECKPOINT
    weights = sum(weight_bytes(budget, one) for one in known) + largest
    yield Line("weights", weights, f"all folds, and one checkpoint{lacking}")
    tables = sum(oof_bytes(budget, one) for one in budget.models)
    yield Line("oof", tables, f"predictions, and embeddings for stage 06{lacking}")


def weight_bytes(budget: Budget, one: Experiment | Sequence) -> float:
    """Bytes of a model's weights, all folds; of a sequence model those of its last ``bag`` epochs."""
    bag = one.bag if isinstance(one, Sequence) else one.networks
    return budget.rates[one.name].parameters * FLOAT * bag * len(budget.context.folds_of(one))


def oof_bytes(budget: Budget, one: Experiment | Sequence) -> float:
    """Bytes of a model's tables: predictions, and embeddings of all rows by each fold where a sequence model reads them."""
    folds, size, rate = len(budget.context.folds_of(one)), budget.size, budget.rates.get(one.name)
    tables = (size.train + folds * size.test) * len(budget.context.competition.targets) * FLOAT
    embeds = isinstance(one, Experiment) and rate is not None and embeddings_wanted(budget.context, one.name)
    if isinstance(one, Experiment) and one.networks > 1:  # what each says of its fold
        tables += one.networks * size.train * len(budget.context.competition.targets) * FLOAT
    return tables + (folds * (size.train + size.test) * rate.width * HALF if embeds and rate else 0)


def memory(budget: Budget) -> Iterator[Line]:
    """Bytes of memory at the peak: on the device that trains, in the loader's workers, behind the sequence models."""
    known = [(budget.rates[one.name].memory, one) for one in budget.models if one.name in budget.rates]
    known = [(amount, one) for amount, one in known if not math.isnan(amount)]
    if known:
        most, one = max(known, key=lambda pair: pair[0])
        yield Line("training", most, f"on the device, {one.name}; {budget.words([one])}")
    workers = budget.context.options.workers
    batches = [math.prod(one.view.size) * len(one.view.mean) * one.train.batch_size for one in budget.context.experiments]
    yield Line("loader", float(max(batches, default=0) * AHEAD * workers), f"{workers} workers, {AHEAD} batches each")
    for sequence in budget.context.sequences:
        widths = [budget.rates[name].width if name in budget.rates else math.nan for name in sequence.members]
        yield Line(sequence.name, budget.size.train * sum(widths) * HALF,
                   "embeddings of a fold's networks; mapped from disk, faster where they fit")


def applied(budget: Budget, past: Past, rows: int) -> Iterator[Line]:
    """Hours in which what the final model needs answers for ``rows`` new pictures."""
    try:
        wanted = needed(budget.context)
    except UserError as error:  # a teammate's tables: other pictures cannot be answered
        yield Line("05_predict", math.nan, str(error))
        return
    models = [one for one in budget.models if one.name in wanted or budget.context.options.only]
    yield past.applied("02_localize", rows)
    yield past.applied("03_cache", rows)
    networks = [one for one in models if isinstance(one, Experiment)]
    yield Line("05_predict", known_sum(budget.applying(one, rows) for one in networks), budget.words(networks))
    sequences = [one for one in models if isinstance(one, Sequence)]
    if sequences:
        words = f"{budget.words(sequences)}; a forward pass taken as a third of a step"
        yield Line("06_sequence", known_sum(budget.applying(one, rows) for one in sequences), words)
    yield past.applied("07_stack", rows)


def written(context: Context, made: Plan) -> Iterator[str]:
    """The plan as text."""
    size = made.size
    many = f", {made.gpus} GPUs" if made.gpus > 1 else ""
    yield (f"{context.competition.name} on {made.machine}{many}: {size.train:,} training and {size.test:,} test pictures, "
           f"{size.said}; {context.competition.folds.count} folds")
    yield from _table("recipe", "hours", made.recipes, 1.0, total="")
    yield from _table("stage", "hours", made.stages, 1.0)
    yield from _table("disk", "GB", made.disk, GIGA)
    yield f"  {'free':24}{shutil.disk_usage(existing(context.paths.out)).free / GIGA:12,.2f}  below {context.paths.out}"
    yield from _table("memory", "GB", made.memory, GIGA, total="")
    yield from _table(f"a hidden test set of {made.hidden_rows:,} pictures", "hours", made.hidden, 1.0)
    yield verdict(made)
    yield from _notes(context, made)


def _table(title: str, unit: str, lines: list[Line], scale: float, total: str = "in all") -> Iterator[str]:
    yield f"\n{title}"
    for line in lines:
        yield f"  {line.name:24}{_number(line.amount / scale):>12}  {unit}  {line.words}"
    if total:
        lacking = lacking_of(lines)
        words = f"without all of {', '.join(lacking)}" if lacking else ""
        yield f"  {total:24}{_number(sum_known(lines) / scale):>12}  {unit}  {words}".rstrip()


def _number(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:,.2f}" if value >= 0.01 or value == 0 else "< 0.01"


def verdict(made: Plan) -> str:
    """Whether the hidden test set fits into ``LIMIT`` hours, and what to do where it does not."""
    hours, lacking = sum_known(made.hidden), lacking_of(made.hidden)
    if math.isnan(hours):
        return f"  against {LIMIT:g} hours: {UNKNOWN}"
    if hours > LIMIT:
        return f"  does not fit into {LIMIT:g} hours: fewer test-time views, fewer members or fewer folds"
    rest = f", as far as it is known (not all of {', '.join(lacking)})" if lacking else ""
    return f"  {hours / LIMIT:.0%} of {LIMIT:g} hours{rest}; another GPU there needs rates of its own (--machine)"


def _notes(context: Context, made: Plan) -> Iterator[str]:
    yield ""
    if any(line.words == NO_RUN for line in made.stages):
        yield f"{NO_RUN}: it gives the other stages' rates, however small: {small_run(context)}"
    if any(rate.how == ESTIMATE for rate in made.rates.values()):
        yield "estimate: a short run here with random pictures, scaled up by pixels and pictures; expect a factor of two"
    yield ("hours are of networks that never wait for pictures" + (
        f", divided by {made.gpus} GPUs" if made.gpus > 1 else "") + "; stage 04 prints the share of time that it waits")
