#!/usr/bin/env bash
# Installs masa-track with what its tests need into .venv-test and runs all of them: style, types, tests.
# Another Python: PYTHON=python3.13 VENV=.venv-313 bash tools/test.sh      Fewer tests: bash tools/test.sh -m "not slow"
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv-test}
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --editable ".[test]"
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
exec "$venv/bin/python" -m pytest "$@"
