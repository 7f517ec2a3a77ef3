#!/usr/bin/env bash
# Installs the project with its test tools into .venv and passes ruff, the type checker, the build of the documentation
# (into build/docs) and the tests.
#   bash scripts/test.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh test,docs
echo "== ruff"
ruff check .
ruff format --check .
echo "== mypy"
mypy
echo "== documentation"
python -m sphinx -W --keep-going -E -q -d build/doctrees docs build/docs
echo "== pytest"
# whole files to each of two processes, so that a file's fixtures are made once
OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile "$@"
