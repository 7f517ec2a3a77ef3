#!/usr/bin/env bash
# ISLES 2022: 200 training, 25 validation and 25 test cases, 10, 20 or 40 labelled. Options: --help
set -euo pipefail
DATASET=isles22 NAME=ISLES22 SOURCE_ID=590 FRACTIONS="5 10 20" LABELED=10
. "$(dirname "${BASH_SOURCE[0]}")/reproduce_common.sh"
