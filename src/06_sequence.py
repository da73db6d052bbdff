"""Stage 06: model a patient's slices in order, over embeddings and out-of-fold predictions of level one.

reads    oof/<competition>/<experiment>/ (embeddings and predictions)
writes   oof/<competition>/<sequence model>/fold0.parquet, fold0_test.parquet; weights/.../fold0_log/
command  python src/06_sequence.py ich --demo [--only two_level] [--folds 0]
takes    about a minute for the demo on two cores; hours on one GPU for RSNA 2019
"""

from competitions import load
from radstack.running.cli import open_context, parser, run
from radstack.stages.sequence import sequence


def main() -> None:
    """Run the stage."""
    arguments = parser(__doc__, "only", "folds", "name", "dry_run", "force", "workers", "device", "gpus", "jobs", "ray",
                       "gpu_share", "resume", "checkpoint_seconds")
    sequence(open_context(arguments.parse_args(), load))


if __name__ == "__main__":
    run(main)
