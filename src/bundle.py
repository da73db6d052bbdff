"""Put a trained solution into one folder that predicts anywhere: no repository, no folds, no tables, no network.

reads    weights/<competition>/, the manifests of oof/<competition>/ (scores)
writes   bundles/<competition>/: weights, sources, apply.txt (packages), recipes.json, manifest.json, predict.py
command  python src/bundle.py ich [--half]          (--half: networks as float16, half the size, answers a little otherwise)
         python src/bundle.py ich --rehearse        (then predicts the test set from the bundle alone, and compares)
         python src/bundle.py ich --demo --rehearse --times 5       (and a drawn test set of five times the size)
then     python bundles/ich/predict.py FOLDER OUT.csv
takes    seconds; --rehearse as long as the test set takes
"""

from competitions import load
from radstack.running.cli import command_parser, open_context, run


def main() -> None:
    """Run the command."""
    arguments = command_parser(__doc__, "workers", "device", "dry_run")
    arguments.add_argument("--half", action="store_true", help="store the networks as float16")
    arguments.add_argument("--rehearse", action="store_true", help="predict the test set in an environment of apply.txt "
                           "alone, without network and repository, and compare with the submission")
    arguments.add_argument("--times", type=int, default=1, metavar="N", help="with --rehearse: draw a test set N times as "
                           "large, too, for time and memory at the hidden set's size")
    args = arguments.parse_args()
    context = open_context(args, load)
    from radstack.commands.bundle import make_bundle

    bundle = make_bundle(context, args.half)
    if args.rehearse and not context.options.dry_run:
        from radstack.commands.rehearse import rehearse

        rehearse(context, bundle, args.times)


if __name__ == "__main__":
    run(main)
