"""Put a trained solution into one folder that predicts anywhere: no repository, no folds, no tables, no network.

reads    weights/<competition>/, the manifests of oof/<competition>/ (scores)
writes   bundles/<competition>/: weights, sources, apply.txt, report.txt (packages), recipes.json, manifest.json,
         predict.py
command  python src/bundle.py ich [--half]          (--half: networks as float16, half the size, answers a little otherwise)
         python src/bundle.py ich --rehearse        (then predicts the test set from the bundle alone, and compares)
         python src/bundle.py ich --demo --rehearse --times 5       (and a drawn test set of five times the size)
         python src/bundle.py ich --kaggle USER [--push]            (data set and offline notebook for Kaggle;
                                                                     with --rehearse the notebook is run first)
then     python bundles/ich/predict.py FOLDER OUT.csv
takes    seconds; --rehearse as long as the test set takes
"""

from functools import partial
from pathlib import Path

from competitions import load
from radstack.running.cli import command_parser, open_context, run
from radstack.running.context import at_least


def main() -> None:
    """Run the command."""
    arguments = command_parser(__doc__, "workers", "device", "dry_run")
    arguments.add_argument("--half", action="store_true", help="store the networks as float16")
    arguments.add_argument("--rehearse", action="store_true", help="predict the test set in an environment of apply.txt "
                           "alone, without network and repository, and compare with the submission")
    arguments.add_argument("--times", type=at_least(1), default=1, metavar="N", help="with --rehearse: draw a test set N "
                           "times as large, too, for time and memory at the hidden set's size")
    arguments.add_argument("--kaggle", metavar="USER", help="write data set and notebook for this user of Kaggle")
    arguments.add_argument("--push", action="store_true", help="with --kaggle: send both")
    arguments.add_argument("--test-data", metavar="OWNER/NAME", default="", help="with --kaggle: the data set there that "
                           "holds the test pictures, where no competition does")
    arguments.add_argument("--columns", metavar="NAME", default="", help="with --kaggle: name of the table there of what "
                           "stands beside the pictures (id,male); bone_age takes its list of test pictures unless told")
    arguments.add_argument("--hours", type=float, default=0.0, help="with --kaggle: deadline of the notebook's prediction")
    arguments.add_argument("--image", type=Path, metavar="FILE", help="with --kaggle: pip freeze of a notebook there")
    args = arguments.parse_args()
    for name, reader in {**dict.fromkeys(("push", "test_data", "columns", "hours", "image"), "kaggle"),
                         "times": "rehearse"}.items():
        if getattr(args, name) != arguments.get_default(name) and not getattr(args, reader):
            arguments.error(f"--{name.replace('_', '-')} is read with --{reader} alone; type both, or neither")
    context = open_context(args, load)
    from radstack.commands.bundle import for_kaggle, make_bundle

    bundle, rehearsed = make_bundle(context, args.half), args.rehearse and not context.options.dry_run
    at_kaggle = partial(for_kaggle, context, bundle, args.kaggle, test_data=args.test_data, image=args.image,
                        columns=args.columns, hours=args.hours)
    kernel = at_kaggle(push=args.push and not rehearsed) if args.kaggle else None
    if rehearsed:
        from radstack.commands.rehearse import rehearse

        rehearse(context, bundle, args.times, kernel)
        if args.kaggle and args.push:
            at_kaggle(push=True)  # only what was rehearsed is sent


if __name__ == "__main__":
    run(main)
