#!/usr/bin/env bash
# All stages in order:  bash run_all.sh [competition] [--demo] [any option of the stages]
# Competitions: ich, bone_age, knee_age, radius_ulna. With none it runs the demo of ich: phantoms, small recipes, a checked submission in minutes.
set -euo pipefail
cd "$(dirname "$0")"
source setup.sh

case "${1:-}" in
  ""|--*) competition=ich; demo=--demo ;;
  *) competition=$1; shift; demo="" ;;
esac
drawing=()   # options of stage 00 alone
training=()  # options of the stages with networks
options=()   # options of every stage
while [ $# -gt 0 ]; do
  case "$1" in
    --demo) demo=--demo ;;
    --demo-size) drawing+=("$1" "$2"); shift ;;
    --device|--gpus|--jobs|--weights|--checkpoint-seconds) training+=("$1" "$2"); shift ;;
    --ray|--offline|--resume|--no-resume) training+=("$1") ;;
    --ray=*) training+=("$1") ;;
    *) options+=("$1") ;;
  esac
  shift
done
# The demos' networks are so small that jobs of one core each outrun one on two cores; they have three folds.
if [ -n "$demo" ]; then training=(--jobs 3 "${training[@]}"); fi

stage() {
  echo
  echo "== $1"
  python "src/$1.py" "$competition" $demo "${@:2}"
}

if [ -n "$demo" ]; then stage 00_get_data "${drawing[@]}" "${options[@]}"; fi
stage 01_make_folds "${options[@]}"
stage 02_localize "${training[@]}" "${options[@]}"
stage 03_cache "${options[@]}"
stage 04_train "${training[@]}" "${options[@]}"
stage 05_predict "${training[@]}" "${options[@]}"
stage 06_sequence "${training[@]}" "${options[@]}"
stage 07_stack "${options[@]}"
stage 08_submit "${options[@]}"
stage 09_report "${options[@]}"
