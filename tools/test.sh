#!/usr/bin/env bash
# Installs masa-track with what its tests need into .venv-test and runs all of them: style, types, tests. Then those of the
# mmdet integration in .venv-mmdet, for which mmcv is built once (some nine minutes on two cores).
# Another Python: PYTHON=python3.13 VENV=.venv-313 bash tools/test.sh      Fewer tests: bash tools/test.sh -m "not slow"
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv-test} mmdet=${VENV_MMDET:-.venv-mmdet}
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --editable ".[test]"
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
"$venv/bin/python" -m pytest "$@"

[ -x "$mmdet/bin/python" ] || "${PYTHON:-python3}" -m venv "$mmdet"
if ! "$mmdet/bin/python" -c "import mmcv.ops" 2> /dev/null; then
    "$mmdet/bin/python" -m pip install --quiet torch==2.8.0 torchvision==0.23.0
    "$mmdet/bin/python" -m pip install --quiet "setuptools>=80,<82" wheel ninja psutil packaging
    MAX_JOBS=2 "$mmdet/bin/python" -m pip install --quiet --no-build-isolation onedl-mmcv==2.3.6
fi
"$mmdet/bin/python" -m pip install --quiet --editable ".[mmdet]" "pytest>=8" torch==2.8.0 onedl-mmcv==2.3.6
exec "$mmdet/bin/python" -m pytest tests/mmdet "$@"
