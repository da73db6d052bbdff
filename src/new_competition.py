"""A competition of your own from a folder of pictures and a table: looks, says what it found, writes one Python file.

reads    the folder and the table; with --test and --sample-submission what is to be answered
writes   src/competitions/<name>/__init__.py; input/<name>/, tables and links to the pictures; nothing that is there already
command  python src/new_competition.py lungs --pictures FOLDER --labels labels.csv
         bash run_all.sh lungs --recipes small           # then: a checked submission and a page
takes    a minute for 10,000 pictures; where no column names the patients, as long as reading all pixels
"""

from competitions import NAMES
from radstack.commands.new_competition import new_competition
from radstack.commands.own.options import arguments_of, wish_of
from radstack.running.cli import run


def main() -> None:
    """Look and write."""
    args = arguments_of(__doc__).parse_args()
    new_competition(wish_of(args), NAMES, args.dry_run)


if __name__ == "__main__":
    run(main)
