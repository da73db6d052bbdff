#!/usr/bin/env bash
# The tests, from nothing:  bash run_tests.sh [pytest options]
# One process for each core, four at most, takes a file after the other; with "-n 0" all is done by this one (for --pdb).
# Tests on real data run when RADSTACK_REAL_DATA names a folder that has it, and are skipped otherwise.
set -euo pipefail
cd "$(dirname "$0")"
export RADSTACK_TOOLS=1
source setup.sh
python -m pytest -n auto --maxprocesses 4 --max-worker-restart 2 --dist loadfile --no-loadscope-reorder "$@"
