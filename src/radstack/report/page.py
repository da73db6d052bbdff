"""One HTML file that needs nothing beside itself: template, style and script are next to this module."""

from importlib import resources

import pandas as pd

from radstack.core.errors import UserError
from radstack.report.blocks import Section, Table
from radstack.report.cases import Case

SHORT = 36
"""Characters of a cell that is never broken into lines."""
LIMIT = 30_000_000
"""Bytes of a page; a browser on a phone still opens it."""


def page(title: str, lead: str, sections: list[Section], cases: list[Case]) -> str:
    """The page as text: ``lead`` is a line below the title; the section called ``cases`` gets the browser of ``cases``.

    Raises:
        UserError: it has more than ``LIMIT`` bytes.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(loader=PackageLoader("radstack.report", "."), undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, autoescape=select_autoescape(("html", "j2")))
    environment.filters |= {"cells": cells, "number": number}
    environment.globals["zip"] = zip
    own = {name: resources.files("radstack.report").joinpath(f"page.{name}").read_text("utf-8") for name in ("css", "js")}
    text = environment.get_template("page.html.j2").render(title=title, lead=lead, sections=sections, cases=cases, **own)
    size = len(text.encode())
    if size > LIMIT:
        raise UserError(f"the report would have {size / 1e6:.0f} MB, more than {LIMIT / 1e6:.0f}; draw fewer or smaller "
                        "pictures in the competition's case_view")
    return text


def cells(table: Table) -> list[list[dict[str, str]]]:
    """Rows of a table as ``text`` and ``sort`` (what the column is sorted by) of each cell."""
    columns = [[_cell(value, table.formats.get(str(name), "")) for value in table.frame[name]] for name in table.frame]
    return [list(row) for row in zip(*columns)]


def number(value: float, form: str = ".4g") -> str:
    """A number in words, "" for NaN."""
    return "" if pd.isna(value) else format(value, form)


def _cell(value: object, form: str) -> dict[str, str]:
    if isinstance(value, float | int) and not isinstance(value, bool):
        form = form or ("," if isinstance(value, int) else ".4g")
        return {"text": number(value, form), "sort": "" if pd.isna(value) else repr(float(value)), "kind": "number"}
    text = "" if value is None or pd.isna(value) else str(value)
    return {"text": text, "sort": text, "kind": "text" if len(text) <= SHORT else "long"}
