"""The demo: phantoms in the organizer's layout, and recipes that two cores can train from scratch in a minute.

Phantoms are worth their lines: as the truth is known, the report can say how far the models are from the best possible
score. Phantoms that take more lines go to ``src/phantoms/_template/``.
"""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from competitions._template import COMPETITION
from competitions._template.experiments import RESNET18, stackers
from competitions._template.index import PICTURES
from competitions._template.views import whole
from radstack.core.files import read_table, replacing, write_table
from radstack.core.recipe import change
from radstack.recipes.competition import FoldRecipe, Phantoms
from radstack.recipes.experiment import Backbone, Optim, Train

HEIGHT = 48
"""Height and width of a picture in pixels of 1 mm."""
READING = 1.0
"""Standard deviation in mm of a reading of the diameter."""


def draw(folder: Path, *, series: int, workers: int) -> None:
    """Two pictures of each of ``series`` patients with a nodule of 6 to 20 mm; the last quarter of them is test."""
    rng = np.random.default_rng(0)
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(series):
        patient, split, true = f"p{number:04d}", "test" if number >= series * 3 // 4 else "train", rng.uniform(6, 20)
        for visit in "ab":
            name = patient + visit
            with replacing(folder / PICTURES / f"{name}.png") as part:
                part.write_bytes(cv2.imencode(".png", picture(rng, true))[1].tobytes())
            lines.append({"id": name, "patient": patient, "split": split,
                          "diameter": true + rng.normal(0, READING), "q_diameter": true})
    table = pd.DataFrame(lines)
    write_table(folder / "train.csv", table[table["split"] == "train"][["id", "patient", "diameter"]])
    write_table(folder / "test.csv", table[table["split"] == "test"][["id", "patient"]])
    write_table(folder / "truth.csv", table)  # last: it says that the archive is whole


def picture(rng: np.random.Generator, diameter: float) -> np.ndarray:
    """A bright disk of ``diameter`` pixels in noise with four vessels across it, uint8 [HEIGHT, HEIGHT]."""
    center = rng.uniform(16, HEIGHT - 16, 2)
    away = np.hypot(*(np.mgrid[:HEIGHT, :HEIGHT] - center[:, None, None]))
    made = rng.normal(70, 20, (HEIGHT, HEIGHT)) + 80 / (1 + np.exp(2 * (away - diameter / 2)))
    for start, end in rng.integers(0, HEIGHT, (4, 2)):
        cv2.line(made, (int(start), 0), (int(end), HEIGHT), 120.0, 1)
    return np.clip(made, 0, 255).astype(np.uint8)


def truth(folder: Path) -> pd.DataFrame | None:
    """What was drawn, for the report alone: each reading, and ``q_diameter``, the best possible prediction of it."""
    file = folder / "truth.csv"
    return read_table(file) if file.exists() else None


SMALL = change(RESNET18, name="resnet", view=whole(32), backbone=Backbone("timm/test_resnet", pretrained=False),
               optim=Optim(lr=3e-3), train=Train(epochs=10, batch_size=16, precision="fp32"))
EXPERIMENTS = (SMALL, change(SMALL, name="byobnet", backbone__name="timm/test_byobnet"))

DEMO = change(
    COMPETITION,
    name="_template-demo",
    title=f"{COMPETITION.title}, phantoms",
    phantoms=Phantoms(draw, 120, truth),
    data__disk=10_000_000,
    folds=FoldRecipe(count=3),
    models__experiments=EXPERIMENTS,
    models__on_call=COMPETITION.models.experiments,
    models__stackers=stackers(tuple(experiment.name for experiment in EXPERIMENTS)),
)
