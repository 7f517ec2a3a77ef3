#!/usr/bin/env bash
# Left atrium: 80 training and 20 test cases, 4, 8 or 16 labelled. Options: --help
set -euo pipefail
DATASET=la NAME=LA SOURCE_ID=500 FRACTIONS="5 10 20" LABELED=10
. "$(dirname "${BASH_SOURCE[0]}")/reproduce_common.sh"
