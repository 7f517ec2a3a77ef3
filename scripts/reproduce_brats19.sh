#!/usr/bin/env bash
# BraTS 2019: 250 training, 25 validation and 60 test cases, 25 or 50 labelled. Options: --help
set -euo pipefail
DATASET=brats19 NAME=BraTS19 SOURCE_ID=560 FRACTIONS="10 20" LABELED=10
. "$(dirname "${BASH_SOURCE[0]}")/reproduce_common.sh"
