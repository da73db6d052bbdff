"""Hands worth annotating next, with what the networks find in them, as a project for the VGG Image Annotator (VIA 2).

reads    cache/<competition>/ of stage 02, input/<competition>/; with --read the project as VIA saved it
writes   reports/<competition>/propose/via.json and pictures/; with --read input/<competition>/annotations/ (masks of the
         outlines, landmarks.json), for the pictures whose "checked" says yes
command  python src/propose.py bone_age --count 50 [--recipes small]
         then load via.json in VIA (Project, Load), correct, mark as checked, save the project, and
         python src/propose.py bone_age --read corrected.json
         bash run_all.sh bone_age                  (trains the networks that find hands on more of them)
takes    seconds
"""

from pathlib import Path

from competitions import load
from radstack.core.errors import UserError
from radstack.running.cli import command_parser, open_context, run


def main() -> None:
    """Propose, or read back."""
    arguments = command_parser(__doc__)
    arguments.add_argument("--count", type=int, default=50, help="how many hands")
    arguments.add_argument("--read", type=Path, metavar="FILE", help="the corrected project")
    args = arguments.parse_args()
    context = open_context(args, load)
    if not context.competition.name.startswith("bone_age"):
        raise UserError(f"{context.competition.name} has no proposals; bone_age does")
    from competitions.bone_age.propose import propose, read_back

    if args.read:
        done, left = read_back(context, args.read)
        print(f"  {done} hands annotated below {context.paths.input}; {left} were not marked as checked and are left out")
    else:
        file = propose(context, args.count)
        print(f"  {file}: load it in VIA, correct, mark as checked, save, then: python src/propose.py bone_age --read FILE")


if __name__ == "__main__":
    run(main)
