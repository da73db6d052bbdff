"""Stage 09: the score table (and a report of every case): each model and stack against the constant predictor.

reads    oof/<competition>/, the label file; for phantoms also input/<competition>-demo/truth.npz, the only reader of it
writes   reports/<competition>/scores.csv; series.csv (ich), hands.csv, localization.csv and hands/ (bone_age)
command  python src/09_report.py ich --demo
takes    seconds
"""

from competitions import load
from radstack.cli import open_context, parser, run
from radstack.stages.report import report


def main() -> None:
    """Run the stage."""
    report(open_context(parser(__doc__).parse_args(), load))


if __name__ == "__main__":
    run(main)
