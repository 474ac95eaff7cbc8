#!/bin/sh
# Installs the shells and servers that tests run, where they are missing. Run by `make test`.
#
# It never fails: tests whose tool is missing are skipped on a developer's machine and fail where CI=true.
set -u
missing=
for tool in dash bash busybox redis-server faketime curl; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
# Debian keeps the server's programs off PATH. The cluster that its package makes is not used: tests make their own
command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
# two real Slurm clusters, and a real ssh server; their daemons are off PATH, too
for tool in slurmctld:slurmctld slurmd:slurmd munged:munge sbatch:slurm-client sinfo:slurm-wlm slurmrestd:slurmrestd \
    sshd:openssh-server ssh:openssh-client rsync:rsync; do
    command -v "${tool%%:*}" >/dev/null || [ -x "/usr/sbin/${tool%%:*}" ] || missing="$missing ${tool#*:}"
done
ls /usr/lib/*/slurm-wlm/auth_jwt.so >/dev/null 2>&1 || missing="$missing slurm-wlm-jwt-plugin"
[ -n "$missing" ] || exit 0
# shellcheck disable=SC2086 # one word per package
sh "$(dirname "$0")/apt-install.sh" $missing || printf 'test: goes on without%s\n' "$missing" >&2
