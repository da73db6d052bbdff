# Sourced by run_all.sh, run_tests.sh and .ci/run: makes .venv from the lock, or finds that it is there.
# RADSTACK_LOCK names another lock, such as requirements-cpu.txt on a machine without CUDA, for as long as .venv stands. Where RADSTACK_TOOLS is set, as
# the tests set it, the tools of development are put beside it.

# uv leaves packages uncompiled, for the first process that imports them to keep what it compiled. Where that is forbidden,
# as in many containers, every process compiles torch and the others anew: 14 seconds of a core instead of 6.
unset PYTHONDONTWRITEBYTECODE

# uv installs the lock several times faster than pip. It does not read pip's configuration, so the indexes named there go along.
lock_by_uv() {
  local uv config
  uv=$(command -v uv) || { .venv/bin/python -m pip install --quiet uv 2> /dev/null && uv=.venv/bin/uv; } || return 1
  config=$(.venv/bin/python -m pip config list)
  UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$(pip_setting index-url)} UV_INDEX=${UV_INDEX:-$(pip_setting extra-index-url)} \
    UV_FIND_LINKS=${UV_FIND_LINKS:-$(pip_setting find-links | tr ' ' ,)} UV_INDEX_STRATEGY=unsafe-best-match \
    "$uv" pip install --quiet --python .venv/bin/python -r "$lock"
}
pip_setting() {  # the environment's value comes first in the list, then a file's
  sed -n "s/^[^=]*\.$1='\(.*\)'$/\1/p" <<< "$config" | head -n 1 | sed 's/\\n/ /g; s/^ *//'
}
digest() {  # macOS has the second; where there is neither, Python says the same
  sha256sum 2> /dev/null < "$lock" || shasum -a 256 2> /dev/null < "$lock" ||
    "${PYTHON:-python3}" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(), "", "-")' "$lock"
}

made() {  # once: a venv over one of another Python, as of another shell, is a mixture that can import little
  .venv/bin/python -c 'import pip' 2> /dev/null && return
  "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")' &&
  "${PYTHON:-python3}" -m venv .venv
}

installed() {  # the lock $1, unless the stamp called $2 says that it is
  local lock=$1 stamp=.venv/$2.sha256 name=.venv/$2.lock
  [ -f "$lock" ] || { echo "there is no lock $lock; name one that is here: export RADSTACK_LOCK=FILE"; return 1; }
  if [ -x .venv/bin/python ] && [ "$(digest)" = "$(cat "$stamp" 2> /dev/null)" ]; then
    [ "$lock" = "$(cat "$name" 2> /dev/null)" ] || echo "$lock" > "$name" || true  # of another person's .venv, which may not be written
    return 0
  fi
  echo "installing $lock into .venv (a few minutes, once)"
  made &&
  export PIP_DISABLE_PIP_VERSION_CHECK=1 &&
  { lock_by_uv || { echo "uv cannot install it here, so pip does: slower"; .venv/bin/python -m pip install --quiet -r "$lock"; }; } &&
  echo "$lock" > "$name" && digest > "$stamp"
}

# All locks of what runs share a stamp: one is installed over another. Without a choice the one that was chosen before stays.
installed "${RADSTACK_LOCK:-$(cat .venv/requirements.lock 2> /dev/null || echo requirements.txt)}" requirements || return 1
[ -z "${RADSTACK_TOOLS:-}" ] || installed requirements-dev.txt requirements-dev || return 1
export PATH="$PWD/.venv/bin:$PATH"
