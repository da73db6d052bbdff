#!/usr/bin/env bash
# Four competitions of one's own from real sets, each from nothing to a checked submission. RADSTACK_REAL_DATA names the
# folder of the sets; what is made goes to OUT (default: /tmp/own_real). Nothing of it belongs into the repository.
#   RADSTACK_REAL_DATA=/data bash benchmarks/own_real.sh [heads_any heads_five hands hands_classes]
# What it prints at the end, and in OUT/NAME.log, is for benchmarks/real.md: scores with intervals, seconds, peak memory.
set -euo pipefail
: "${RADSTACK_REAL_DATA:?name the folder that has ct_ich and bone_age_real}"
ROOT=$(cd "$(dirname "$0")/.." && pwd)
OUT=${OUT:-/tmp/own_real}
export RADSTACK_COMPETITIONS=$OUT/mine OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$OUT/mine"
cd "$ROOT"
source setup.sh
HEADS=$RADSTACK_REAL_DATA/ct_ich
HANDS=$RADSTACK_REAL_DATA/bone_age_real

new() { nice -n 12 python src/new_competition.py "$@" --data-dir "$OUT" --workers 1; }

heads_any() { new heads_any --pictures "$HEADS/images" --labels "$HEADS/labels.csv" --target any --order slice; }

heads_five() {
  new heads_five --pictures "$HEADS/images" --labels "$HEADS/labels.csv" --order slice \
    --target epidural intraparenchymal intraventricular subarachnoid subdural
}

hands() {
  new hands --pictures "$HANDS/boneage-training-dataset" --labels "$HANDS/boneage-training-dataset.csv" \
    --target boneage --columns male
}

# Ages below 8 years, below 13, and older: words beside the hands.
hands_classes() {
  python - "$HANDS/boneage-training-dataset.csv" "$OUT/classes.csv" <<'PYTHON'
import sys

import pandas as pd

table = pd.read_csv(sys.argv[1], dtype=str)
table["age"] = pd.cut(table["boneage"].astype(float), [0, 96, 156, 240], labels=["child", "middle", "teen"])
table[["id", "male", "age"]].to_csv(sys.argv[2], index=False)
PYTHON
  new hands_classes --pictures "$HANDS/boneage-training-dataset" --labels "$OUT/classes.csv" --target age --columns male
}

for name in "${@:-heads_any}"; do
  [ -e "$OUT/mine/$name" ] || "$name"
  start=$SECONDS
  nice -n 12 python - "$name" "$OUT" > "$OUT/$name.log" 2>&1 <<'PYTHON'
import resource
import subprocess
import sys

name, out = sys.argv[1:]
done = subprocess.run(["bash", "run_all.sh", name, "--recipes", "small", "--data-dir", out, "--out-dir", out])
print(f"peak memory of one process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6:.2f} GB")
sys.exit(done.returncode)
PYTHON
  echo "$name: $((SECONDS - start)) s"
  tail -n 16 "$OUT/$name.log"
done
