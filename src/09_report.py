"""Stage 09: the report, one self-contained page, and the tables behind it.

reads    everything above: tables, manifests, logs, pixels, weights (Grad-CAM), the label file; for phantoms also
         input/<competition>-demo/truth.npz, the only reader of it
writes   reports/<competition>/index.html, scores.csv, the competition's own tables; of one from a table also leak_audit.csv
command  python src/09_report.py ich --demo
takes    under a minute for the demo; minutes for RSNA 2019
"""

from competitions import load
from radstack.report.stage import report
from radstack.running.cli import open_context, parser, run


def main() -> None:
    """Run the stage."""
    arguments = parser(__doc__, "dry_run", "force")
    context = open_context(arguments.parse_args(), load)
    report(context)
    if context.competition.data.recipe is not None:  # of a table that nobody looked through yet
        from radstack.commands.leak_audit import audit_once

        audit_once(context)


if __name__ == "__main__":
    run(main)
