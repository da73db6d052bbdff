"""Hospital spreadsheets joined to pictures by date and serial number: the labels.csv of radius_ulna.

reads    spreadsheets (.xls, .xlsx, .csv), input/<competition>/**/<date>_<serial>.png
writes   input/<competition>/labels.csv, and unmatched.csv with what found no partner
command  python src/join_labels.py radius_ulna batch1.xls batch2.xlsx
takes    seconds
"""

from pathlib import Path

import pandas as pd

from competitions import load
from radstack.core.errors import UserError
from radstack.running.cli import command_parser, open_context, run


def main() -> None:
    """Join."""
    arguments = command_parser(__doc__)
    arguments.add_argument("sheets", type=Path, nargs="+", help="spreadsheets with date, serial number and both stages")
    args = arguments.parse_args()
    context = open_context(args, load)
    if context.competition.name != "radius_ulna":
        raise UserError(f"{context.competition.name} has no spreadsheets to join; radius_ulna has")
    from competitions.radius_ulna.join import join, list_pictures, read_sheet, write_labels

    labels = pd.concat([read_sheet(sheet) for sheet in args.sheets], ignore_index=True)
    write_labels(context.paths.input, join(list_pictures(context.paths.input), labels), print)


if __name__ == "__main__":
    run(main)
