"""What docs/recipes.md says to type makes recipes that work: names of their own, fields that there are, losses that fit."""

import re
from pathlib import Path

import pytest

from radstack.commands.own import recipes
from radstack.core.recipe import change
from radstack.images.own.source import LABELS_KIND, NUMBER_KIND, Source
from radstack.nets.objectives import objective

PAGE = (Path(__file__).parents[1] / "docs/recipes.md").read_text(encoding="utf-8")
SIDE = 256
SOURCES = [Source(LABELS_KIND, {"fluid": ("0", "1"), "air": ("0", "1")}), Source(NUMBER_KIND, {"months": (120.0, 40.0)})]


@pytest.mark.parametrize("row", re.findall(r"`(change\(NETWORKS.*?\))`", PAGE))
def test_a_row_is_a_network_with_a_name_of_its_own(row):
    source = SOURCES["squared" in row or "line=" in row]
    networks = recipes.small_networks(source, 128, SIDE, rows=1000, groups=1000, pretrained=True)
    made = eval(row, {"change": change, "NETWORKS": networks, "SIDE": SIDE})
    assert made.name not in {one.name for one in networks} and made != change(networks[0], name=made.name)
    assert objective(made.loss, source.targets).outputs == len(source.targets)
    models = recipes.models_of(source, (*networks, made))
    assert made.name in models.stackers[1].members


def test_every_knob_of_a_network_is_written_as_such_and_has_another_name():
    rows = re.findall(r"`(change\(NETWORKS.*?\))`", PAGE)
    names = [re.search(r'name="(\w+)"', row) for row in rows]
    assert len(rows) > 11 and all(names) and len({name[1] for name in names if name}) == len(rows)


def test_the_blocks_of_code_run_as_they_stand():
    source = SOURCES[0]
    known = {"change": change, "network": recipes.network, "SOURCE": source, "SEEN": 128, "SIDE": SIDE,
             "NETWORKS": recipes.small_networks(source, 128, SIDE, rows=1000, groups=1000, pretrained=True)}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, known)
    names = [one.name for one in known["NETWORKS"]]
    assert len(names) == len(set(names)) >= 5
    assert len(recipes.models_of(source, known["NETWORKS"]).experiments) == len(names)
