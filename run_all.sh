#!/usr/bin/env bash
# All stages in order:  bash run_all.sh [competition] [--demo, or --recipes small] [any option of the stages]
# Competitions: ich, bone_age, knee_age, radius_ulna. With none it runs the demo of ich: phantoms, small recipes, a checked submission in minutes.
set -euo pipefail
cd "$(dirname "$0")"
source setup.sh
case "${1:-}" in ""|-*) set -- ich --demo "$@" ;; esac

# A lost ssh or a closed notebook ends nothing: what cannot be said then goes to lost_output.log beside the weights.
trap '' HUP PIPE

# With --all-stages a stage passes over the options that only other stages read; what none reads, the first refuses.
stage() {
  printf '\n== %s\n' "$1" 2> /dev/null || true
  python "src/$1.py" --all-stages "${@:2}"
}

stage 00_get_data "$@"
stage 01_make_folds "$@"
stage 02_localize "$@"
stage 03_cache "$@"
stage 04_train "$@"
stage 05_predict "$@"
stage 06_sequence "$@"
stage 07_stack "$@"
stage 08_submit "$@"
stage 09_report "$@"
