#!/bin/sh
# Installs Debian packages, as root or by sudo without a password; says what to do where neither is possible.
# Usage: apt-install.sh PACKAGE...
set -eu

say() { printf 'packages: %s\n' "$*" >&2; }

if ! command -v apt-get >/dev/null; then
    say "this machine has no apt-get; install by its own means: $*"
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    sudo=
elif sudo -n true 2>/dev/null; then
    sudo='sudo -n'
else
    say "neither root nor sudo without a password; please run: sudo apt-get install $*"
    exit 1
fi

install() {
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

# a package that brings a server starts it, too, and takes its port; we want the program alone. A machine that has
# rules of its own for that keeps them.
rules=/usr/sbin/policy-rc.d
if [ ! -e "$rules" ]; then
    trap '$sudo rm -f "$rules"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$rules" >/dev/null
    $sudo chmod 755 "$rules"
fi

say "installing $*"
# a fresh machine knows no packages yet; asking every time would cost seconds
install "$@" 2>/dev/null || { $sudo apt-get update -q >/dev/null && install "$@"; }
