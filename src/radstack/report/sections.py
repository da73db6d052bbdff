"""The page's sections in order: each is one module, given the evidence."""

from radstack.report.cases import cases
from radstack.report.data import data
from radstack.report.ensemble import ensemble
from radstack.report.evidence import Evidence
from radstack.report.models import models
from radstack.report.page import page
from radstack.report.plots import style
from radstack.report.provenance import provenance
from radstack.report.result import result


def write_page(evidence: Evidence) -> str:
    """The whole page as text; see :func:`radstack.report.page.page`."""
    competition = evidence.context.competition
    with style():
        browser, chosen = cases(evidence)
        sections = [result(evidence), data(evidence), models(evidence), ensemble(evidence), browser, provenance(evidence)]
    lead = f"{len(evidence.train):,} training rows, scored by {competition.metric}; submitted: {evidence.final}"
    return page(competition.title, lead, sections, chosen)
