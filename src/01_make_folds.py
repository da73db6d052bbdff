"""Stage 01: index the raw files and deal patients into folds.

reads    input/<competition>/ (headers only, and the label file)
writes   folds/<competition>/index.parquet, quarantine.csv, folds.csv
command  python src/01_make_folds.py ich [--demo] [--set folds.count=5]
         python src/01_make_folds.py ich --folds-from team_folds.csv      # by row, patient or study; checked
takes    seconds for the demo; a minute for the 874,035 headers of RSNA 2019 on two cores and a fast disk; restartable
"""

from competitions import load
from radstack.running.cli import open_context, parser, run
from radstack.stages.folds import deal_folds, make_index


def main() -> None:
    """Run the stage."""
    arguments = parser(__doc__, "dry_run", "force", "workers", "folds_from")
    context = open_context(arguments.parse_args(), load)
    make_index(context)
    deal_folds(context)


if __name__ == "__main__":
    run(main)
