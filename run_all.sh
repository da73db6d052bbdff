#!/usr/bin/env bash
# All stages in order:  bash run_all.sh [competition] [--demo] [any option of the stages]
# With no competition it runs the demo of ich: phantoms, small recipes, a checked submission in minutes.
set -euo pipefail
cd "$(dirname "$0")"
source setup.sh

case "${1:-}" in
  ""|--*) competition=ich; demo=--demo ;;
  *) competition=$1; shift; demo="" ;;
esac
size=()
options=()
while [ $# -gt 0 ]; do
  case "$1" in
    --demo) demo=--demo ;;
    --demo-size) size=(--demo-size "$2"); shift ;;
    *) options+=("$1") ;;
  esac
  shift
done

stage() {
  echo
  echo "== $1"
  python "src/$1.py" "$competition" $demo "${@:2}"
}

if [ -n "$demo" ]; then stage 00_get_data "${size[@]}"; fi
stage 01_make_folds "${options[@]}"
stage 02_localize "${options[@]}"
stage 03_cache "${options[@]}"
stage 04_train "${options[@]}"
stage 05_predict "${options[@]}"
stage 06_sequence "${options[@]}"
stage 07_stack "${options[@]}"
stage 08_submit "${options[@]}"
stage 09_report "${options[@]}"
