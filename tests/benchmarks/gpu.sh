#!/usr/bin/env bash
# What a first machine with a GPU measures, in under nine minutes. Cells and their table go to gpu/, apart from the
# cells of CPUs; figures and the logs beside them. Each part has a share of the time and may be cut off by it.
#   tests/benchmarks/gpu.sh [DEVICE]
set -uo pipefail
cd "$(dirname "$0")/../.."
device=${1:-cuda}
mkdir -p gpu
part() { # seconds, name, command...
    local seconds=$1 name=$2
    shift 2
    timeout "$seconds" "$@" >"gpu/$name.txt" 2>&1
    echo "$name: exit code $?, after $SECONDS s in all; see gpu/$name.txt"
}
part 40 doctor python -m bench doctor
part 120 tests python -m pytest -q -m gpu
part 240 cells python -m bench run --methods all --size tiny --device "$device" --jobs 4 --results gpu/results
part 50 metrics python tests/benchmarks/bench_metrics.py --device "$device"
part 40 precision python tests/benchmarks/precision.py --device "$device" --batch 16 --repeats 5
part 40 ddad python tests/benchmarks/ddad_training.py --device "$device"
