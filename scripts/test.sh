#!/usr/bin/env bash
# Installs the project with its test tools into .venv and passes ruff, the type checker and the tests.
#   bash scripts/test.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh test
echo "== ruff"
ruff check .
ruff format --check .
echo "== mypy"
mypy
echo "== pytest"
pytest "$@"
