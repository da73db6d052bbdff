"""Stage 02: find the anatomy in every picture (ich: head rest and head box by rules; bone_age: networks of every fold).

reads    input/<competition>/, folds/<competition>/index.parquet
writes   cache/<competition>/boxes.parquet, quarantine.csv (pictures that cannot be decoded); where networks do it also
         weights/<competition>/<network>/ and cache/<competition>/prepared, found, maps
command  python src/02_localize.py ich [--demo] [--workers 8]
         python src/02_localize.py bone_age --demo --show 4     (pictures of every step, below reports/)
         python src/02_localize.py radius_ulna --set localizer.detector=resnet50     (another detector, by its name)
takes    seconds for the demo of ich, two minutes for that of bone_age; about an hour for RSNA 2019 on 8 cores; restartable
"""

from competitions import load
from radstack.running.cli import open_context, parser, run
from radstack.stages.localize import localize, show


def main() -> None:
    """Run the stage."""
    arguments = parser(__doc__, "show", "dry_run", "force", "workers", "device", "gpus", "jobs", "ray", "gpu_share",
                       "resume", "checkpoint_seconds", "weights", "offline")
    context = open_context(arguments.parse_args(), load)
    localize(context)
    if context.options.show:
        show(context, context.options.show)


if __name__ == "__main__":
    run(main)
