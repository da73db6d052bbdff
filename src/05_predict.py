"""Stage 05: out-of-fold and test predictions of every experiment, with its test-time augmentation, and embeddings.

reads    weights/<competition>/<experiment>/fold0.safetensors, cache/<competition>/
writes   oof/<competition>/<experiment>/fold0.parquet, fold0_test.parquet, fold0_embeddings.npy
command  python src/05_predict.py ich --demo --only se_resnext50 --folds 0,1
takes    about a minute for the demo on two cores; for RSNA 2019 see benchmarks/RESULTS.md
"""

from competitions import load
from radstack.running.cli import open_context, parser, run
from radstack.stages.predict import predict


def main() -> None:
    """Run the stage."""
    arguments = parser(__doc__, "only", "folds", "name", "dry_run", "force", "workers", "device", "jobs", "ray", "gpu_share")
    predict(open_context(arguments.parse_args(), load))


if __name__ == "__main__":
    run(main)
