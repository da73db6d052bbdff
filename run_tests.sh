#!/usr/bin/env bash
# The tests, from nothing:  bash run_tests.sh [pytest options]
# Tests on real data run when RADSTACK_REAL_DATA names a folder that has it, and are skipped otherwise.
set -euo pipefail
cd "$(dirname "$0")"
source setup.sh
python -m pytest "$@"
