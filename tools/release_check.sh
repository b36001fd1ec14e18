#!/usr/bin/env bash
# What is too heavy for tools/test.sh: run it before a release, after tools/test.sh, whose environment it uses.
#   bash tools/release_check.sh            all steps
#   bash tools/release_check.sh install    one step: install, situations, killed, soak, pythons, huge, masklets,
#                                          association, calibration
# Prints a line per step and ends with status 1 if one of them failed.
set -uo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv-test}
python=$PWD/$venv/bin/python
shared=${SHARED:-$PWD/../shared}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# The README's first command in a fresh clone and a fresh environment.
install() {
    git clone --quiet . "$work/clone" && cd "$work/clone" &&
        python3 -m venv .venv && .venv/bin/pip install --quiet . && .venv/bin/masa-track demo --out "$work/demo" &&
        [ -s "$work/demo/video.mp4" ] && [ -s "$work/demo/report.html" ]
}

# Situations that users of trackers reported, each a script that exits 0 where it goes well.
situations() {
    local status=0 name
    cd "$shared/cases/behaviour" || return 1
    for name in glitch_frame belt_one_at_a_time comes_back_other_border sprint_turns three_flies double_box \
        rider_class_aware ids_skip memory_cost percent_scores milliseconds dict_without_labels \
        rows_of_numbers resolution_switch; do
        PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$OLDPWD "$python" "$name.py" > "$work/$name.txt" 2>&1 ||
            { status=1 && echo "  $name: $(tail -n 3 "$work/$name.txt")"; }
    done
    return $status
}

# Runs killed at 100 random moments, recovered and gone on with; what they give is that of a run that was not killed.
killed() { PYTHONPATH=$PWD "$python" tests/killed_runs.py "$work/killed" 100 > "$work/killed.txt" 2>&1 && tail -n 1 "$work/killed.txt"; }

# 200,000 frames in parts, of which old ones are deleted: memory and files stay bounded (some 30 minutes).
soak() { "$python" tools/soak.py --rotate 40 --keep 60 --frames 200000 --objects 6 --life 38 | tail -n 4; }

# Exports through the validators of other tools (700 MB of them).
huge() { "$python" -m pytest -q -o faulthandler_timeout=3600 -m huge tests/test_export.py; }

# SAM 2 at 1024 pixels against the official code's numbers; its compiled image encoder.
masklets() { "$python" -m pytest -q -o faulthandler_timeout=3600 -m huge tests/test_sam2_parity.py tests/test_sam2_session.py; }

# The core on each Python that is here.
pythons() {
    local status=0 name tried=0
    for name in python3.10 python3.11 python3.12 python3.13; do
        "$name" -c "" 2> /dev/null || continue
        tried=1
        "$name" -m venv "$work/$name" && "$work/$name/bin/pip" install --quiet . "pytest>=8" &&
            "$work/$name/bin/pytest" -q tests/core || { status=1 && echo "  $name failed"; }
    done
    [ $tried = 1 ] || { echo "  no python3.10 to python3.13 on the path" && return 1; }
    return $status
}

# Association beside the peers, and what its copy of the state costs.
association() {
    "$python" -m pip install --quiet ".[bench]" && "$python" tools/bench_association.py --counts 10 50 200
}

# Appearance evidence: learned from the video, fitted, and another model's.
calibration() { "$python" tools/bench_calibration.py --runs 12 --dimensions 64; }

steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(install situations killed soak pythons huge masklets association calibration)
for step in "${steps[@]}"; do
    started=$SECONDS
    if (set -e; "$step"); then result=passed; else result=FAILED; failed=1; fi
    echo "release check: $step $result in $((SECONDS - started)) s"
done
exit $failed
