"""What is there, what is missing for which stage, and what to type next: packages, GPU, memory, disk, credentials, stages.

reads    requirements.in, requirements.txt, the folders of one competition; asks no server and prints no secret
writes   nothing; the exit status is 1 when something that the next stage needs is missing
command  python src/doctor.py ich [--demo] [--weights FOLDER]
takes    some seconds
"""

import sys

from radstack.commands.environment import INSTALL, absent


def main() -> None:
    """Run the command."""
    from competitions import load
    from radstack.commands.doctor import doctor
    from radstack.running.cli import command_parser, open_context

    arguments = command_parser(__doc__, "weights")
    doctor(open_context(arguments.parse_args(), load))


if __name__ == "__main__":
    if absent():  # then nothing else could be imported
        sys.exit(f"error: not installed: {', '.join(absent())}; {INSTALL}")
    from radstack.running.cli import run

    run(main)
