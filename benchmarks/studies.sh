#!/usr/bin/env bash
# Every table and figure of the four sources on phantoms:  bash benchmarks/studies.sh [competition[:phantoms] ...]
# Without a number it is the demo's own size; radius_ulna:200 has a third of its hands. What is made is kept, so a killed one
# goes on where it was. Each competition first says its runs and hours on this machine, study by study and in all (--dry-run).
# Most are radius_ulna's sixty networks, of fold 0 alone since the source has one hold-out; then the networks of masks of
# knee_age (seven) and bone_age (five); the rest is what the demos left.
set -euo pipefail
cd "$(dirname "$0")/.."
source setup.sh
if [ $# -eq 0 ]; then set -- ich bone_age knee_age radius_ulna; fi
for one in "$@"; do
  IFS=: read -r competition size <<< "$one"
  if [ "$competition" = radius_ulna ]; then folds=0; else folds=""; fi
  bash run_all.sh "$competition" --demo ${size:+--demo-size "$size"}
  python src/study.py "$competition" --demo ${folds:+--folds "$folds"} --dry-run
  time python src/study.py "$competition" --demo ${folds:+--folds "$folds"} --jobs 2
done
