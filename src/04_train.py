"""Stage 04: train every experiment on every fold (mixed precision, resumable).

reads    cache/<competition>/, folds/<competition>/folds.csv
writes   weights/<competition>/<experiment>/fold0.safetensors, fold0_log/ (figures.csv, TensorBoard events)
command  python src/04_train.py ich --demo --only se_resnext50 --folds 0,1
         python src/04_train.py ich --only se_resnext50 --set optim.lr=1e-4 --name se_resnext50_hot
         python src/04_train.py ich --pseudo final        (test rows, labeled by fold, when all stages are done)
         python src/04_train.py ich --gpus 4              (torchrun: four processes share each job)
         python src/04_train.py ich --ray auto            (jobs spread over a Ray cluster)
takes    about a minute and a half for the demo on two cores; for RSNA 2019 see benchmarks/RESULTS.md
"""

from competitions import load
from radstack.running.cli import open_context, parser, run
from radstack.stages.train import train


def main() -> None:
    """Run the stage."""
    arguments = parser(__doc__, "only", "folds", "name", "dry_run", "force", "workers", "device", "gpus", "jobs", "ray",
                       "gpu_share", "resume", "checkpoint_seconds", "held_out", "weights", "offline", "pseudo")
    train(open_context(arguments.parse_args(), load))


if __name__ == "__main__":
    run(main)
