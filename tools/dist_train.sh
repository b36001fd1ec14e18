#!/usr/bin/env bash
# Trains in several processes, one a GPU:
#   bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several machines: on each,
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=HOST PORT=29500 bash tools/dist_train.sh ...
# Another Python: PYTHON=python3.13. Without a GPU: --device cpu.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]" >&2; exit 2; }
config=$1 gpus=$2
shift 2
[[ $gpus =~ ^[1-9][0-9]*$ ]] || { echo "dist_train.sh: GPUS must be a number of processes, got '$gpus'" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
where=(--standalone)
[ "${NNODES:-1}" = 1 ] || where=(--nnodes "$NNODES" --node-rank "${NODE_RANK:?}" --master-addr "${MASTER_ADDR:?}" --master-port "${PORT:-29500}")
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m torch.distributed.run "${where[@]}" --nproc-per-node "$gpus" \
  "$here/train.py" "$config" --launcher pytorch "$@"
