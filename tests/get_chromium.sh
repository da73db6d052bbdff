#!/usr/bin/env bash
# Prints the path of a headless Chromium that npm has (Linux, x86-64), fetched once into .venv/chromium.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$PWD/.venv/chromium
if [ ! -x "$folder/chromium" ]; then
  mkdir -p "$folder"
  npm install --silent --no-audit --no-fund --prefix "$folder" @sparticuz/chromium@147 > "$folder/npm.log" 2>&1
  # The variable asks it to unpack the libraries that it needs, too.
  cd "$folder"
  TMPDIR=$folder AWS_LAMBDA_JS_RUNTIME=nodejs22.x node --input-type=module \
    -e 'import chromium from "@sparticuz/chromium"; await chromium.executablePath();' >> npm.log 2>&1
fi
echo "$folder/chromium"
