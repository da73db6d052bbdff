"""RSNA 2019 intracranial hemorrhage detection: six labels a CT slice, weighted log loss.

Sources: "the four-network write-up", a Chinese article of unknown author on four networks, their blend and a sequence model;
and the public code of SeuTao (first place), NoBrainer (second place, darraghdog), okotaku (a member of the third place) and
appian (11th place), all of 2019.
"""

from competitions.ich import hu, localizer
from competitions.ich.cases import view
from competitions.ich.experiments import EXPERIMENTS, ON_CALL, SEQUENCES, STACKERS
from competitions.ich.index import build_index, index_new
from competitions.ich.labels import TARGETS, label_files, sample_file
from competitions.ich.report import BASELINES, PUBLISHED, series_table
from radstack.recipes.competition import CacheRecipe, Competition, Data, Models, Pages
from radstack.scoring.task import Metric

COMPETITION = Competition(
    name="ich",
    title="RSNA 2019 intracranial hemorrhage",
    targets=TARGETS,
    metric=Metric("weighted log loss", (1, 1, 1, 1, 1, 2)),
    data=Data(build_index, label_files, sample_file, localizer.picture, kaggle="rsna-intracranial-hemorrhage-detection",
              disk=640_000_000_000, rows=(752_803, 121_232), a_series=35, index_new=index_new),
    localizer=localizer.HEAD,
    # A head of 190 mm is 390 pixels at the usual 0.49 mm, and the crop is not much larger: 400 keeps what was measured,
    # in 280 GB where 512 would take 458.
    cache=CacheRecipe(size=(400, 400), fill=hu.LOWEST, by=("top", "left", "side")),
    models=Models(EXPERIMENTS, STACKERS, final="final", sequences=SEQUENCES, on_call=ON_CALL),
    pages=Pages(published=PUBLISHED, case_tables={"series": series_table}, case_by="series", case_view=view,
                acquisition=("head_share",), baselines=BASELINES),
)
