#!/bin/sh
# Makes the three places of sites.yaml as folders here, a scan at the first one, and a token: `sh prepare.sh [SCAN]`.
set -eu
scan=${1:-flight-check}
cd "$(dirname "$0")"
mkdir -p places/spot832/raw places/data832 places/cfs
umask 077 # nobody else may read what a secret is kept in
[ -e catalogue.token ] || printf 'not-a-real-token\n' >catalogue.token
printf '1 2 3\n4 5 6\n7 8 9\n10 11 12\n' >"places/spot832/raw/$scan.txt"
echo "places/spot832/raw/$scan.txt is there; now: crossfade --sites sites.yaml run workflow.yaml -p scan=$scan"
