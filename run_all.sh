#!/usr/bin/env bash
# All stages in order:  bash run_all.sh [competition] [--demo, or --recipes small] [any option of the stages]
# Competitions: ich, bone_age, knee_age, radius_ulna. With none it runs the demo of ich: phantoms, small recipes, a checked submission in minutes.
set -euo pipefail
cd "$(dirname "$0")"
source setup.sh
case "${1:-}" in ""|-*) set -- ich --demo "$@" ;; esac

# A lost ssh or a closed notebook ends nothing: what cannot be said then goes to lost_output.log beside the weights.
trap '' HUP PIPE

stages="
  00_get_data
  01_make_folds
  02_localize
  03_cache
  04_train
  05_predict
  06_sequence
  07_stack
  08_submit
  09_report"

# Each is given --all-stages as well: it passes over the options that only other stages read; what none reads, the first refuses.
exec python src/all_stages.py "$stages" "$@"
