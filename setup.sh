# Sourced by run_all.sh, run_tests.sh and .ci/run: makes .venv from the lock, or finds that it is there.
stamp=.venv/requirements.sha256
if [ ! -x .venv/bin/python ] || [ "$(sha256sum < requirements.txt)" != "$(cat "$stamp" 2>/dev/null)" ]; then
  echo "installing the lock into .venv (a few minutes, once)"
  "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
  "${PYTHON:-python3}" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
  sha256sum < requirements.txt > "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
