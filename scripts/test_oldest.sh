#!/usr/bin/env bash
# Installs the project with the oldest versions it allows into .venv-oldest and passes the tests of losses, loading and
# training there. scripts/test.sh runs all tests with the newest ones.
#   bash scripts/test_oldest.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh test scripts/oldest.txt
python -c 'import torch, importlib.metadata as m; print("torch", torch.__version__, "nnunetv2", m.version("nnunetv2"))'
OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile -p no:cacheprovider tests/test_uncl.py tests/test_fecl.py tests/test_consistency.py tests/test_ema.py \
  tests/test_projection_head.py tests/test_patches.py tests/test_strong_view.py tests/test_cutmix.py tests/test_zoom.py \
  tests/test_two_stream_loader.py tests/test_trainer.py tests/test_resume.py tests/test_ddp.py "$@"
