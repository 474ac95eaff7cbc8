# crossfade: says who runs, so that whoever comes after can end it, and gives way to a newer generation
[ ! -L ".crossfade/claim.$((CROSSFADE_GENERATION + 1))" ] || exit 74
cf_stat=
read -r cf_stat 2>/dev/null <"/proc/$$/stat" || :
set -f
# shellcheck disable=SC2086 # the fields after the command's name, split on purpose
set -- ${cf_stat##*) }
set +f
printf '%s %s\n' "$$" "${20:-}" >"${CROSSFADE_CHECKPOINT_DIR%/ckpt}/payload"
set --
unset cf_stat
