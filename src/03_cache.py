"""Stage 03: decode once, crop and resize; int16 memory-mapped shards.

reads    input/<competition>/, cache/<competition>/boxes.parquet
writes   cache/<competition>/shard-*.npy, rows.parquet; quarantine-03.csv (what was damaged since stage 02, if anything was)
command  python src/03_cache.py ich [--demo] [--set cache.size=[512,512]]
takes    seconds for the demo; for RSNA 2019 about half an hour on 8 cores and 280 GB of disk at 400 pixels (checked
         first); restartable
"""

from competitions import load
from radstack.running.cli import open_context, parser, run
from radstack.stages.cache import cache


def main() -> None:
    """Run the stage."""
    arguments = parser(__doc__, "dry_run", "force", "workers")
    cache(open_context(arguments.parse_args(), load))


if __name__ == "__main__":
    run(main)
