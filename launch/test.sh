#!/usr/bin/env bash
# Makes the environment and runs the whole test suite: first all but the multi-device tests, then those, which need
# several (simulated) devices and therefore processes of their own. Two processes at a time, each a whole file.
#
#   bash launch/test.sh               everything
#   bash launch/test.sh tests/test_fip.py -k masks      as pytest takes it
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
source launch/environment.sh
EXTRAS=${EXTRAS:-test} make_environment
if [ $# -gt 0 ]; then
    exec .venv/bin/python -m pytest "$@"
fi
status=0
.venv/bin/python -m pytest -n2 --dist=loadfile --no-loadscope-reorder --ignore=tests/multidevice || status=$?
.venv/bin/python -m pytest -n2 --dist=loadfile --no-loadscope-reorder tests/multidevice || status=$?
exit $status
