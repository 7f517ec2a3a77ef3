#!/usr/bin/env bash
# Pancreas-CT: 62 training and 18 test cases, 6 or 12 labelled. Options: --help
set -euo pipefail
DATASET=pancreas NAME=Pancreas SOURCE_ID=530 FRACTIONS="10 20" LABELED=20
. "$(dirname "${BASH_SOURCE[0]}")/reproduce_common.sh"
