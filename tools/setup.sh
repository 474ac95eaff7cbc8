#!/bin/sh
# Makes .venv, or leaves it alone when nothing changed since it was made. Run by `make setup`.
#
# PYTHON, when set, names the interpreter; else the newest of 3.13, 3.12 and 3.11 on PATH is taken.
set -eu
cd "$(dirname "$0")/.."
stamp=.venv/.made-from

say() { printf 'setup: %s\n' "$*" >&2; }

wanted() { # what .venv depends on: where it lies (its scripts name that) and what it holds
    pwd
    cat pyproject.toml constraints.txt tools/setup.sh | cksum
}

fits() { # fits PYTHON: may crossfade run with it? (a name on PATH may be a shim with nothing behind it)
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

choose() { # python: the one to use. One that can make environments is preferred to a newer one that cannot.
    python=
    for name in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        fits "$name" || continue
        [ -n "$python" ] || python=$name
        if "$name" -c 'import ensurepip, venv' 2>/dev/null; then
            python=$name
            return
        fi
    done
    if [ -z "$python" ]; then
        say "Python 3.11, 3.12 or 3.13 is needed; ${PYTHON:-nothing on PATH} is none; name one: make setup PYTHON=/path/to/python"
        exit 1
    fi
    # Debian keeps this part of Python in a package of its own
    sh tools/apt-install.sh "python$(version "$python")-venv"
}

make_venv() {
    choose
    say "making .venv with Python $(version "$python")"
    "$python" -m venv --clear .venv
}

if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(wanted)" ]; then
    exit 0
fi
if ! fits .venv/bin/python || [ "$(head -n 1 "$stamp" 2>/dev/null || pwd)" != "$(pwd)" ]; then
    make_venv
elif [ -n "${PYTHON:-}" ] && [ "$(version "$PYTHON")" != "$(version .venv/bin/python)" ]; then
    make_venv
fi
rm -f "$stamp" # until all is installed
say 'installing crossfade and what it is developed with'
# first pip itself: one that knows dependency groups
.venv/bin/python -m pip install -qq --constraint constraints.txt pip
.venv/bin/python -m pip install -qq --constraint constraints.txt --build-constraint constraints.txt \
    --group dev --editable .
wanted >"$stamp"
say 'done'
