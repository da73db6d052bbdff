"""One picture in, the annotated picture out: what a trained competition finds in it, by the networks of every fold.

reads    a PNG, JPEG, TIFF or DICOM file, weights/<competition>/, oof/<competition>/ (stages 02 to 07 done)
writes   the PNG that is named last
command  python src/annotate.py radius_ulna picture.png annotated.png
         python src/annotate.py radius_ulna --demo input/radius_ulna-demo/pictures/2014-03-05_0007.png annotated.png
takes    some seconds on a CPU
"""

from pathlib import Path

from competitions import load
from radstack.core.errors import UserError
from radstack.running.cli import command_parser, open_context, run


def main() -> None:
    """Annotate."""
    arguments = command_parser(__doc__)
    arguments.add_argument("picture", type=Path, help="PNG, JPEG, TIFF or DICOM file")
    arguments.add_argument("out", type=Path, help="PNG file to write")
    arguments.add_argument("--device", default="cpu", help="cpu or cuda")
    args = arguments.parse_intermixed_args()  # --demo may stand between the names
    context = open_context(args, load)
    if not context.competition.name.startswith("radius_ulna"):
        raise UserError(f"{context.competition.name} annotates no pictures; radius_ulna does")
    from competitions.radius_ulna.annotate import annotate

    print(annotate(context, args.picture, args.out))


if __name__ == "__main__":
    run(main)
