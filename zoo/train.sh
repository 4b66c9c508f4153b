#!/usr/bin/env bash
# Train the zoo's CIFAR-10 model and put it here. A stop (Ctrl-C, SIGTERM) costs nothing: the same command goes on.
# usage: zoo/train.sh [RUN]        LCMAE_DATA holds cifar10/; OMP_NUM_THREADS=1 gives the stated time
set -euo pipefail
run=${1:-runs/zoo-mae-cifar10-small}
here=$(cd "$(dirname "$0")" && pwd)
if [ -f "$run/config.json" ]; then lcmae train --resume "$run"; else lcmae train mae-cifar10-small --out "$run" --device cpu; fi
epochs=$(python -c "import json; print(json.load(open('$run/config.json'))['epochs'])")
python "$here/publish.py" "$run" mae-cifar10-small "MAE, ViT 128 wide and 6 deep, 8 x 8 patches, CIFAR-10, $epochs epochs"
