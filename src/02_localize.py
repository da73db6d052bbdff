"""Stage 02: find the anatomy in every picture and settle one crop a series (ich: head-rest removal, head box).

reads    input/<competition>/, folds/<competition>/index.parquet
writes   cache/<competition>/boxes.parquet, quarantine.csv (pictures that cannot be decoded)
command  python src/02_localize.py ich [--demo] [--workers 8]
takes    seconds for the demo; about an hour for RSNA 2019 on 8 cores; restartable
"""

from competitions import load
from radstack.cli import open_context, parser, run
from radstack.stages.localize import localize


def main() -> None:
    """Run the stage."""
    localize(open_context(parser(__doc__).parse_args(), load))


if __name__ == "__main__":
    run(main)
