#!/usr/bin/env bash
# Installs masa-track as `pip install .` does, without torch, into a fresh .venv-test-core and runs tests/core there: one
# minute. Then installs it with what all tests need into .venv-test and runs all of them: style, types, tests. Then those of
# the mmdet integration in .venv-test-mmdet, which lies over .venv-test (one torch for both) and for which mmcv is built once
# (some nine minutes on two cores).
# torch is the newest that mmcv's sources compile with. Another, without mmdet: TORCH=2.15.0 VENV=.venv-new bash tools/test.sh
# Another Python: PYTHON=python3.13 VENV=.venv-313 bash tools/test.sh      Fewer tests: bash tools/test.sh -m "not slow"
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv-test}
torch=${TORCH:-2.8.0}
core=$venv-core
rm -rf "$core" && "${PYTHON:-python3}" -m venv "$core"
"$core/bin/python" -m pip install --quiet . "pytest>=8"
"$core/bin/pytest" tests/core  # not by python -m, which would import masa_track from this folder

[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --editable ".[test]" "torch==$torch"
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
"$venv/bin/python" -m pytest "$@"
[ "$torch" = 2.8.0 ] || exit 0

mmdet=$venv-mmdet
[ -x "$mmdet/bin/python" ] || "${PYTHON:-python3}" -m venv "$mmdet"
site='import sysconfig; print(sysconfig.get_path("purelib"))'
"$venv/bin/python" -c "$site" > "$("$mmdet/bin/python" -c "$site")/test.pth"
if ! "$mmdet/bin/python" -c "import mmcv.ops" 2> /dev/null; then
    "$mmdet/bin/python" -m pip install --quiet "setuptools>=80,<82" wheel ninja psutil packaging
    MAX_JOBS=2 "$mmdet/bin/python" -m pip install --quiet --no-build-isolation onedl-mmcv==2.3.6
fi
"$mmdet/bin/python" -m pip install --quiet --editable ".[mmdet]" "pytest>=8" "torch==$torch" onedl-mmcv==2.3.6
exec "$mmdet/bin/python" -m pytest tests/mmdet "$@"
