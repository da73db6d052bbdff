"""The written ``__init__.py``: plain Python that a person reads and goes on with."""

import json
import pprint
import re
import textwrap
from dataclasses import fields

from radstack.commands.own.form import as_code, groups_of
from radstack.core.errors import UserError
from radstack.images.own.source import KINDS, Source
from radstack.recipes.submission import Layout

WIDTH = 116
PIECE = re.compile(r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|,(?! )|[^'",])+""")
"""Of a call: what stands between two commas that a space follows, none of them within words."""
TEMPLATE = '''"""{title}

Written by new_competition.py; every line is yours to change. bash run_all.sh {name} --recipes small
Its data lie below input/{name}: tables, and links to {pictures}.
"""

{imports}

SIDE, SEEN = {side}, {seen}  # pixels of a cached picture, and of what the small networks see
SOURCE = Source(
{source}
)

COMPETITION = Competition(
    name="{name}",
    title="{title}",
    targets=SOURCE.targets,
    metric={metric},
    data=data_of(SOURCE),
    localizer=squares(SIDE{squared}),
    cache=cached(SIDE),
    models=models_of(SOURCE, full_networks(SOURCE, SIDE, SIDE)),
    folds=FoldRecipe(count={folds}),
    submission={layout},
    pages=pages_of(SOURCE, grouped={grouped}),
)

{choice}
NETWORKS = small_networks(SOURCE, SEEN, SIDE, rows={rows}, groups={groups}, pretrained={pretrained})
# A class that counts double: change(NETWORKS[0], loss=...), see docs/recipes.md for this and the other knobs.
SMALL = change(COMPETITION, name="{name}-small", source="{name}", title="{title}, small recipes",
               models=models_of(SOURCE, NETWORKS))
'''
IMPORTS = {
    "radstack.core.recipe": ("change",),
    "radstack.commands.own.recipes": ("cached", "data_of", "full_networks", "models_of", "pages_of", "small_networks",
                                      "squares"),
    "radstack.images.own.source": ("Source",),
    "radstack.recipes.competition": ("Competition", "FoldRecipe"),
    "radstack.recipes.submission": ("Layout",),
    "radstack.scoring.task": ("Metric",),
}


def written(name: str, title: str, pictures: str, source: Source, layout: Layout, metric: str, choice: str,
            **numbers: object) -> str:
    """The text of the module; ``numbers``: ``side``, ``seen``, ``folds``, ``rows``, ``groups``, ``pretrained``, ``grouped``,
    ``squared`` (further arguments of ``squares``). ``choice`` says why the small networks are what they are.

    A UserError where it is no Python, so that nothing is written.
    """
    imports = dict(IMPORTS)
    if groups_of(source):
        imports["radstack.scoring.metrics"] = ("ClassGroup",)
    lines = "\n".join(f"from {room} import {', '.join(names)}" for room, names in sorted(imports.items()))
    place = pictures if len(pictures) <= WIDTH // 2 else f"...{pictures[-WIDTH // 2:]}"
    text = TEMPLATE.format(name=name, title=_quoted(title.replace('"', "'")), pictures=_quoted(place), imports=lines,
                           source=_source(source), layout=_wrapped(as_code(layout)), metric=_wrapped(metric),
                           choice=textwrap.fill(choice, WIDTH, initial_indent="# ", subsequent_indent="# "), **numbers)
    try:
        compile(text, "__init__.py", "exec")
    except (SyntaxError, ValueError) as error:
        raise UserError(f"the module would be no Python ({error}); give the columns and words of the table plainer "
                        "names") from error
    return text


def _quoted(text: str) -> str:
    """What stands for ``text`` between double quotes."""
    return json.dumps(text.encode("utf-8", "backslashreplace").decode(), ensure_ascii=False)[1:-1]


def _source(source: Source) -> str:
    """The arguments, one a line; those that are as usual are left out."""
    lines = [f"    kind={source.kind!r},  # one of {', '.join(KINDS)}",
             f"    labels={_folded(dict(source.labels), 11)},"]
    for each in fields(source)[2:]:
        held = getattr(source, each.name)
        if held and (each.name in ("id", "match") or held != each.default):
            lines.append(f"    {each.name}={_folded(dict(held), 12) if isinstance(held, dict) else repr(held)},")
    return "\n".join(lines)


def _folded(value: object, indent: int) -> str:
    return pprint.pformat(value, width=WIDTH - indent, compact=True, sort_dicts=False).replace("\n", "\n" + " " * indent)


def _wrapped(text: str) -> str:
    """A call of one line, or broken at its commas where it is too long."""
    if len(text) + 20 <= WIDTH:
        return text
    parts, line = [], ""
    for piece in map(str.lstrip, PIECE.findall(text)):
        if len(line) + len(piece) > WIDTH - 24:
            parts.append(line)
            line = ""
        line += piece + ", "
    return ("\n" + " " * 8).join(part.rstrip() for part in [*parts, line.removesuffix(", ")])
