"""The page's sections in order: each is one module, given the evidence."""

from radstack.core.progress import track
from radstack.report.cases import cases
from radstack.report.data import data
from radstack.report.ensemble import ensemble
from radstack.report.evidence import Evidence
from radstack.report.models import models
from radstack.report.page import page
from radstack.report.plots import style
from radstack.report.provenance import provenance
from radstack.report.result import result

BEFORE_CASES = (result, data, models, ensemble)
AFTER_CASES = (provenance,)


def write_page(evidence: Evidence) -> str:
    """The whole page as text; see :func:`radstack.report.page.page`."""
    competition, sections = evidence.context.competition, {}
    with style():
        with track(len(BEFORE_CASES) + len(AFTER_CASES), "sections", brief=True) as steps:
            for make in (*BEFORE_CASES, *AFTER_CASES):
                sections[make] = make(evidence)
                steps.step()
        browser, chosen = cases(evidence)
    ordered = [*(sections[make] for make in BEFORE_CASES), browser, *(sections[make] for make in AFTER_CASES)]
    lead = f"{len(evidence.train):,} training rows, scored by {competition.metric}; submitted: {evidence.final}"
    return page(competition.title, lead, ordered, chosen)
