"""A deadline for an answer: what is left out, in a fixed order, from rates that this machine shows on the first pictures.

1. Test-time views, one at a time; each time the one that saves most seconds, so a slow network's come first.
2. Members: the networks of the last fold, of all recipes and seeds together, until one fold is left. Stackers and sequence
   models of that fold go with it; those of the folds that stay see all members that they were fitted on.

What is left then is always run to its end, so that the answer is whole even where the deadline cannot be kept.
"""

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from radstack.core.files import read_json, write_json
from radstack.core.recipe import change, digest
from radstack.recipes.experiment import Experiment
from radstack.running.context import Context
from radstack.running.tables import read_rows
from radstack.stages.stack import stack_folds
from radstack.stages.train import weights_artifact

SHARE = 0.8
"""Of the time left, for networks; level two and whatever is slower than it was get the rest."""
PLAN = "plan.json"
"""What was decided for a set or a part of one, in its folder."""
PROBE = 64
"""Pictures by which a network is timed."""


@dataclass(frozen=True)
class Rate:
    """Seconds a picture of the networks of one fold of a recipe, which are several where seeds or snapshots are averaged."""

    read: float
    """For what is done once, whatever the views."""
    view: float
    """For each test-time view."""


@dataclass(frozen=True)
class Plan:
    """What is run."""

    views: dict[str, int]
    """Recipe -> the first so many of its test-time views."""
    folds: int
    """The first so many folds."""

    def seconds(self, rates: dict[str, Rate]) -> float:
        """Seconds a picture."""
        return self.folds * sum(rate.read + self.views[name] * rate.view for name, rate in rates.items())


def cut_plan(whole: Plan, rates: dict[str, Rate], rows: int, seconds: float) -> Plan:
    """The least cut of ``whole``, in the order of this module, that answers ``rows`` pictures within ``seconds``."""
    plan = whole
    while rows * plan.seconds(rates) > seconds:
        spare = {name: rates[name].view for name, views in plan.views.items() if views > 1}
        if spare:
            slowest = max(spare, key=lambda name: spare[name])
            plan = replace(plan, views={**plan.views, slowest: plan.views[slowest] - 1})
        elif plan.folds > 1:
            plan = replace(plan, folds=plan.folds - 1)
        else:
            break
    return plan


def left_out(whole: Plan, plan: Plan) -> str:
    """What ``plan`` leaves out, in words; "" for nothing."""
    views = [f"{count - plan.views[name]} of {count} views of {name}"
             for name, count in whole.views.items() if plan.views[name] < count]
    folds = [f"the networks of {whole.folds - plan.folds} of {whole.folds} folds"] if plan.folds < whole.folds else []
    return ", ".join(views + folds)


class Deadline:
    """The time until which a set is to be answered."""

    def __init__(self, hours: float) -> None:
        self.hours, self.end, self.rates = hours, time.monotonic() + hours * 3600, dict[str, Rate]()

    def cut(self, one: Context, rows_later: int, spent: float) -> Context:
        """``one``, a part of the set that is cached, with the recipes that there is time for.

        The plan is kept in its folder, so that a killed run goes on with the same, if hours and pictures are the same.

        Args:
            one: a set or a part of one.
            rows_later: pictures of the parts after this one.
            spent: seconds that finding and caching the pictures of this part took.
        """
        file, whole, rows = one.paths.out / PLAN, whole_plan(one), len(read_rows(one, "test")[0])
        asked = digest(self.hours, whole, rows, rows_later)
        if not file.exists() or read_json(file)["asked"] != asked:
            self.rates = self.rates or measured(one)
            ready = spent * rows_later / max(rows, 1)
            left = SHARE * (self.end - time.monotonic() - ready)
            plan = cut_plan(whole, self.rates, rows + rows_later, left)
            write_json(file, {"asked": asked, "plan": vars(plan), "left out": left_out(whole, plan)})
        plan = Plan(**read_json(file)["plan"])
        if words := left_out(whole, plan):
            late = "; even so it may take longer" if plan == least(whole) and self._late(plan, rows + rows_later) else ""
            print(f"  for the deadline left out: {words}{late}", flush=True)
        return within(one, plan)

    def _late(self, plan: Plan, rows: int) -> bool:
        return bool(self.rates) and rows * plan.seconds(self.rates) > SHARE * (self.end - time.monotonic())


def cut_in(one: Context) -> str:
    """What a deadline left out of a set or a part of one that is answered, in words; "" for nothing."""
    file = one.paths.out / PLAN
    return str(read_json(file).get("left out", "")) if file.exists() else ""


def whole_plan(context: Context) -> Plan:
    """All views and folds of what the final model descends from."""
    return Plan({one.name: len(one.tta) for one in context.experiments},
                len(stack_folds(context, context.competition.models.final)))


def least(whole: Plan) -> Plan:
    """The plan that nothing can be left out of."""
    return Plan(dict.fromkeys(whole.views, 1), 1)


def within(context: Context, plan: Plan) -> Context:
    """The competition with the views and folds of ``plan``."""
    folds = tuple(stack_folds(context, context.competition.models.final)[:plan.folds])
    models = context.competition.models

    def cut(experiment: Experiment) -> Experiment:
        if experiment.name not in plan.views:
            return experiment
        return change(experiment, tta=experiment.tta[:plan.views[experiment.name]], folds=folds)

    competition = change(context.competition, models__experiments=tuple(map(cut, models.experiments)),
                         models__on_call=tuple(map(cut, models.on_call)))
    return replace(context, competition=competition, options=replace(context.options, folds=folds))


def measured(context: Context) -> dict[str, Rate]:
    """Recipe -> seconds a picture of a network, timed on the first pictures of the set."""
    return {experiment.name: _rate(context, experiment) for experiment in context.experiments}


def _rate(context: Context, experiment: Experiment) -> Rate:
    first = change(experiment, tta=experiment.tta[:1])
    seconds = _timer(context, experiment)
    seconds(first)  # the first call of a process is slower than all others
    one, more = seconds(first), len(experiment.tta) - 1
    view = max(seconds(experiment) - one, 0.0) / more if more else 0.0
    return Rate(experiment.networks * max(one - view, 0.0), experiment.networks * view)


def _timer(context: Context, experiment: Experiment) -> Any:
    """A function that gives the seconds a picture of a network of ``experiment`` with any test-time views."""
    import torch

    from radstack.images.shards import Shards
    from radstack.training import inference

    fold = stack_folds(context, context.competition.models.final)[0]
    targets, device = context.competition.targets_of(experiment), torch.device(context.options.device or "cpu")
    weights: Path = weights_artifact(context, experiment, fold).files[0]
    net, rows = inference.load_net(experiment, targets, weights, device), read_rows(context, "test")[0]
    wanted = np.arange(min(PROBE, len(rows)))
    look = partial(inference.predict, net=net, targets=targets, rows=rows, wanted=wanted, cache=Shards(context.paths.cache),
                   store=np.empty((0, net.width), np.float16), report=lambda line: None,
                   workers=context.options.workers if device.type == "cuda" else 0)

    def seconds(recipe: Experiment) -> float:
        start = time.monotonic()
        look(recipe)
        return (time.monotonic() - start) / len(wanted)

    return seconds
