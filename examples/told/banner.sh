# One line for each notice, beside this script. What is told comes as JSON on stdin too; a real one calls your pager.
printf '%s %s%s: %s\n' "$CROSSFADE_NOTICE_ID" "${CROSSFADE_NOTICE_OVER:+over, was }" \
    "$CROSSFADE_NOTICE_KIND" "$CROSSFADE_NOTICE_TEXT" >>banner.txt
