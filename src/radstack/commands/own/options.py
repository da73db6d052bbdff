"""The command line of ``new_competition.py``."""

import argparse
import os
from pathlib import Path

from radstack.commands.own.looking import Wish
from radstack.commands.own.tasks import TASKS
from radstack.core.errors import UsageError
from radstack.core.limits import cores
from radstack.running.cli import OneLine

COMPETITIONS = Path(__file__).parents[3] / "competitions"
"""Where the stages look for a competition."""


def arguments_of(doc: str | None) -> argparse.ArgumentParser:
    """All options."""
    made = OneLine(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("name", help="of the competition: small letters, digits and _")
    made.add_argument("--pictures", type=Path, required=True, metavar="FOLDER", help="PNG, JPEG, TIFF, DICOM, NIfTI or "
                                                                                     "NRRD, "
                      "nested at will")
    made.add_argument("--labels", type=Path, required=True, metavar="TABLE", help="CSV with a header; , ; or tab")
    made.add_argument("--test", type=Path, metavar="FOLDER", help="pictures to be answered (default: a fifth is held out)")
    made.add_argument("--sample-submission", type=Path, metavar="CSV", help="the form of the answer")
    made.add_argument("--id", default="", metavar="COL", help="column that names a row of the submission")
    made.add_argument("--file", default="", metavar="COL", help="column with the picture's path or name")
    made.add_argument("--target", nargs="+", default=[], metavar="COL", help="columns to predict")
    made.add_argument("--task", default="", choices=["", *TASKS], help="where it cannot be told from the cells")
    made.add_argument("--metric", default="", metavar="NAME", help="what the leaderboard computes: log_loss, roc_auc, "
                                                                   "accuracy, "
                      "kappa, mae, rmse, f1, or a scorer of scikit-learn")
    made.add_argument("--group", default="", metavar="COL", help="column of the patient; none for no patients")
    made.add_argument("--order", default="", metavar="COL", help="column that orders a group's pictures: a sequence")
    made.add_argument("--columns", nargs="+", default=[], metavar="COL", help="columns that networks get beside the picture")
    made.add_argument("--weight", default="", metavar="COL", help="column of how much a picture counts in training")
    made.add_argument("--several", action="store_true", help="all pictures of an id are answered together")
    made.add_argument("--window", default="", metavar="CENTER,WIDTH", help="of CT, in HU (default: 40,400)")
    made.add_argument("--into", type=Path, default=None, metavar="FOLDER", help="where the competition's folder goes "
                                                                                "(default: "
                      "src/competitions, or the folder of RADSTACK_COMPETITIONS)")
    made.add_argument("--data-dir", type=Path, default=Path(), metavar="FOLDER", help="above input/")
    made.add_argument("--workers", type=int, default=cores(), metavar="N", help="processes")
    made.add_argument("--dry-run", action="store_true", help="print the file, write nothing")
    return made


def wish_of(args: argparse.Namespace) -> Wish:
    """The options as what is wished."""
    own = os.environ.get("RADSTACK_COMPETITIONS", "").split(os.pathsep)[0]
    into = args.into or (Path(own) if own else COMPETITIONS)
    return Wish(args.name, args.pictures, args.labels, into, args.data_dir, args.test,
                args.sample_submission, args.id, args.file, tuple(args.target), args.group, args.order, args.weight,
                tuple(args.columns), args.task, args.metric, args.several, window_of(args.window), args.workers)


def window_of(text: str) -> tuple[float, float]:
    """Center and width; () for none."""
    if not text:
        return ()  # type: ignore[return-value]
    try:
        center, width = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--window {text}: give center and width in HU, such as 40,80") from error
    return center, width
