"""Stage 07: stack: weighted averages, LightGBM, forest, calibration, smoothing over out-of-fold tables.

reads    oof/<competition>/<member>/ of the members each stacker names
writes   oof/<competition>/<stacker>/fold0.parquet, fold0_test.parquet (a stack can be a member of the next)
command  python src/07_stack.py ich --demo [--only lightgbm]
takes    half a minute for the demo; minutes to an hour for RSNA 2019 on 16 cores
"""

from competitions import load
from radstack.running.cli import open_context, parser, run
from radstack.stages.stack import stack_all


def main() -> None:
    """Run the stage."""
    arguments = parser(__doc__, "only", "name", "dry_run", "force")
    stack_all(open_context(arguments.parse_args(), load))


if __name__ == "__main__":
    run(main)
