#!/usr/bin/env bash
# Installs the project with the oldest versions it allows into .venv-oldest and passes the tests of losses, loading and
# training there. scripts/test.sh runs all tests with the newest ones.
#   bash scripts/development/test_oldest.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/environment.sh test scripts/development/oldest.txt
python -c 'import torch, importlib.metadata as m; print("torch", torch.__version__, "nnunetv2", m.version("nnunetv2"))'
OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile -p no:cacheprovider tests/losses tests/data \
  tests/training tests/trainers/test_trainer.py tests/trainers/test_resume.py "$@"
