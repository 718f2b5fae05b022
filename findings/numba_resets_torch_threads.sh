#!/usr/bin/env bash
# The first parallel loop that numba compiles undoes torch.set_num_threads.
#
# Packages: torch 2.13.0 (CPU), numba 0.68.1, Linux x86_64, two or more cores.
# Behaviour: numba's OpenMP threading layer and torch share one OpenMP runtime. When a function with parallel=True runs
# for the first time, numba sets that runtime's number of threads to that of the cores, and torch, which was told to use
# one thread, uses all of them from then on. With NUMBA_THREADING_LAYER=workqueue torch's number stays.
# Why it matters: two processes of one thread each on a busy machine become processes whose threads wait for one another;
# here, tests of a few seconds took minutes.
# Seen: "1 omp 2" on two cores, and "1 workqueue 1".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numba==0.68.1 numpy==2.4.6
cat > "$folder/threads.py" <<'PYTHON'
import numba
import numpy as np
import torch

torch.set_num_threads(1)
before = torch.get_num_threads()


@numba.njit(parallel=True)
def add(values):
    for i in numba.prange(len(values)):
        values[i] += 1


add(np.zeros(1000))
print(before, numba.threading_layer(), torch.get_num_threads())
PYTHON
cores=$(nproc)
[ "$cores" -gt 1 ] || { echo "needs two cores, found $cores"; exit 1; }
omp=$(NUMBA_THREADING_LAYER=omp "$folder/venv/bin/python" "$folder/threads.py")
queue=$(NUMBA_THREADING_LAYER=workqueue "$folder/venv/bin/python" "$folder/threads.py")
echo "$omp"
echo "$queue"
[ "$omp" = "1 omp $cores" ] && [ "$queue" = "1 workqueue 1" ]
