"""Looks for leaks: patients on both sides at any level, copies of pictures across folds, fits that know too much.

reads    folds/, cache/, oof/ and the manifests in weights/ of a competition; --train trains one network for itself
writes   reports/<competition>/leak_audit.csv, near_duplicates.csv; exit status 1 on a leak
command  python src/leak_audit.py ich --demo
         python src/leak_audit.py ich --demo --train resnet    # also one network, on shuffled labels
takes    half a minute on the phantoms; with 750,000 slices of 256 pixels seven CPU minutes (512: half an hour, shared by
         --workers) and 1 GB for the copies, then as long as stage 07
"""

from competitions import load
from radstack.commands.leak_audit import leak_audit
from radstack.images.duplicates import DISTANCE
from radstack.running.cli import command_parser, open_context, run
from radstack.running.context import at_least


def main() -> None:
    """Audit."""
    arguments = command_parser(__doc__, "workers")
    arguments.add_argument("--train", default="", metavar="NAME", help="also train this experiment on shuffled labels, one "
                           "fold, in a temporary folder")
    arguments.add_argument("--distance", type=at_least(0), default=DISTANCE, metavar="N", help="bits of 255 by which the "
                           f"hashes of near duplicates may differ (default: {DISTANCE})")
    arguments.add_argument("--device", default="", help="of --train: cpu, cuda ... (default: a GPU if there is one)")
    args = arguments.parse_args()
    leak_audit(open_context(args, load), args.distance, args.train)


if __name__ == "__main__":
    run(main)
