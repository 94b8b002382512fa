#!/usr/bin/env bash
# Proves on a GPU what tests on a CPU cannot, and measures it; ends within 9.5 minutes.
#
#     OUT=results benchmarks/gpu.sh [--cpu] [--stages a,b] [--minutes 9.5]
#
# Needs python3 with pip. What is missing is installed into $WORK/venv, on top of the packages that
# are there: from the folder of wheels $WHEELS if it is set, else from PyPI. To fill that folder:
#
#     python3 benchmarks/gpu.py requirements | xargs pip download --dest wheels --python-version 3.12 \
#         --only-binary=:all:        # antlr4-python3-runtime has no wheel: pip wheel it
#
# Each stage has its own time limit and appends one JSON line to $OUT/gpu.jsonl as it ends (stage, ok,
# seconds, figures). A second call repeats only what did not pass or was not reached; changed code is
# tested again. --cpu runs everything at tiny sizes without a GPU, to test the script itself.
set -uo pipefail
cd "$(dirname "$0")/.."
export OUT=${OUT:-benchmarks/results} WORK=${WORK:-$PWD/.gpu}
export PYTHONPATH=$PWD/src TOKENIZERS_PARALLELISM=false
PYTHON=${PYTHON:-python3}
mkdir -p "$OUT" "$WORK"
BEGAN=$(date +%s)

install() {
    local wanted finder=()
    [ -n "${WHEELS:-}" ] && finder=(--no-index --find-links "$WHEELS")
    mapfile -t wanted < <("$PYTHON" benchmarks/gpu.py requirements)
    # Without pip of its own: a distribution's python3 may lack ensurepip.
    [ -x "$WORK/venv/bin/python" ] || "$PYTHON" -m venv --system-site-packages --without-pip "$WORK/venv" || return 1
    timeout 180 "$PYTHON" -m pip --python "$WORK/venv/bin/python" install --quiet \
        --disable-pip-version-check --no-input "${finder[@]}" "${wanted[@]}"
}

if [ -x "$WORK/venv/bin/python" ] && "$WORK/venv/bin/python" benchmarks/gpu.py missing; then
    PYTHON=$WORK/venv/bin/python
elif ! "$PYTHON" benchmarks/gpu.py missing; then
    if install >"$WORK/install.log" 2>&1 && "$WORK/venv/bin/python" benchmarks/gpu.py missing; then
        PYTHON=$WORK/venv/bin/python
    else
        tail -5 "$WORK/install.log"
        printf '{"stage": "install", "ok": false, "seconds": %d, "error": "see %s"}\n' \
            $(($(date +%s) - BEGAN)) "$WORK/install.log" >>"$OUT/gpu.jsonl"
        exit 1
    fi
fi
exec "$PYTHON" benchmarks/gpu.py run --began "$BEGAN" "$@"
