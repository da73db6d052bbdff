"""List the pretrained files that a competition's recipes start from, and fetch them for machines without a network.

reads    the recipes; with --to the publishers' servers (Hugging Face, download.pytorch.org, PyPI ...)
writes   FOLDER/<file>, FOLDER/weights.json (SHA-256 and size of what was fetched)
command  python src/get_weights.py ich                      (the list: size, license, SHA-256, source)
         python src/get_weights.py ich --to FOLDER          (then: python src/04_train.py ich --weights FOLDER --offline)
takes    as long as the files take to arrive; what is there is not fetched again
"""

from pathlib import Path

from competitions import load
from radstack.running.cli import command_parser, open_context, run


def main() -> None:
    """Run the command."""
    from radstack.commands.get_weights import get_weights

    arguments = command_parser(__doc__, "dry_run")
    arguments.add_argument("--to", type=Path, help="folder that receives the files")
    args = arguments.parse_args()
    get_weights(open_context(args, load), args.to)


if __name__ == "__main__":
    run(main)
