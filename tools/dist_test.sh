#!/usr/bin/env bash
# Tracks and scores the videos of an mmdet configuration in several processes, one a GPU:
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test_mot.py]
# CHECKPOINT is none for weights that are shipped or that CONFIG names. Several machines: on each,
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=HOST PORT=29500 bash tools/dist_test.sh ...
# Another Python: PYTHON=python3.13. Without a GPU: --device cpu.
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test_mot.py]" >&2; exit 2; }
config=$1 checkpoint=$2 gpus=$3
shift 3
[[ $gpus =~ ^[1-9][0-9]*$ ]] || { echo "dist_test.sh: GPUS must be a number of processes, got '$gpus'" >&2; exit 2; }
[ "$checkpoint" = none ] && checkpoint=()
here=$(cd "$(dirname "$0")" && pwd)
where=(--standalone)
[ "${NNODES:-1}" = 1 ] || where=(--nnodes "$NNODES" --node-rank "${NODE_RANK:?}" --master-addr "${MASTER_ADDR:?}" --master-port "${PORT:-29500}")
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m torch.distributed.run "${where[@]}" --nproc-per-node "$gpus" \
  "$here/test_mot.py" "$config" "${checkpoint[@]}" --launcher pytorch "$@"
