#!/usr/bin/env bash
# ACDC: 70 training, 10 validation and 20 test patients, two volumes each, 3 or 7 patients labelled. Options: --help
set -euo pipefail
DATASET=acdc NAME=ACDC SOURCE_ID=620 FRACTIONS="3 7" LABELED=7 UNIT=patients CONFIG=2d
. "$(dirname "${BASH_SOURCE[0]}")/reproduce_common.sh"
