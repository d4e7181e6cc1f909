#!/usr/bin/env bash
# Runs an experiment on this machine. Makes the environment .venv first, if it is not there.
#
#   bash launch/local.sh                                    the quick FIP example: table and report in some minutes
#   bash launch/local.sh --config=configs/mona/quick.py --workdir=runs/mona_quick      the quick MoNA example
#   bash launch/local.sh --config=FILE.py --workdir=DIR     any other config; --config.KEY=VALUE changes a key of it
#   bash launch/local.sh --help                             all options
#
# PYTHON=/path/to/python chooses the interpreter (3.11 or newer); EXTRAS=gpu or EXTRAS=tpu installs JAX for them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
source launch/environment.sh
make_environment
if [ $# -eq 0 ]; then
    set -- --config=configs/fip/quick.py --workdir=runs/fip_quick
fi
for word in "$@"; do
    case "$word" in
        -h|--help|-help)
            sed -n '2,9s/^# \{0,1\}//p' launch/local.sh
            exec .venv/bin/python -m fipjax.main --help ;;
    esac
done
exec .venv/bin/python -m fipjax.main "$@"
