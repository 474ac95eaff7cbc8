# crossfade: fetch the rest of this script from the bucket, then be it
for cf_need in curl sha256sum awk sed find; do
    command -v "$cf_need" >/dev/null || {
        echo "crossfade: the image has no $cf_need; it needs sh, curl 7.87 or newer, sha256sum, awk, sed and find" >&2
        exit 78
    }
done
cf_quoted() { printf '%s' "$1" | sed 's/[\\"]/\\&/g'; }
cf_tries=5
until printf 'user = "%s:%s"\n%s' "$(cf_quoted "$CROSSFADE_ACCESS_KEY")" "$(cf_quoted "$CROSSFADE_SECRET_KEY")" \
    "${CROSSFADE_SESSION_TOKEN:+header = \"x-amz-security-token: $CROSSFADE_SESSION_TOKEN\"}" |
    curl --config - --silent --show-error --fail --connect-timeout 10 --max-time 60 --output pod.sh \
        --aws-sigv4 "aws:amz:$CROSSFADE_REGION:s3" --header "x-amz-content-sha256: $CROSSFADE_NOTHING" "$CROSSFADE_POD_SCRIPT"; do
    cf_tries=$((cf_tries - 1))
    [ "$cf_tries" -gt 0 ] || {
        echo 'crossfade: the job could not be fetched from the bucket' >&2
        exit 77
    }
    sleep 2
done
exec /bin/sh pod.sh
