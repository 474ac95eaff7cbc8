#!/bin/sh
# crossfade's errand boy in a pod: brings an attempt's folder from the bucket, starts the harness, brings back what it
# leaves: its records, checkpoints and logs while it runs, its outputs when it has ended.
#
#   claim (a conditional put) -> fetch -> harness, beside it: push, hear -> push all -> the harness's exit code
#
# A record is shown in the bucket only after all that it speaks of is there. Exit codes of its own: 73 another pod has
# claimed this attempt, 77 the bucket cannot be reached, 78 the image lacks a program.
set -u
umask 077
export LC_ALL=C
access=$CROSSFADE_ACCESS_KEY secret=$CROSSFADE_SECRET_KEY token=${CROSSFADE_SESSION_TOKEN:-}
unset CROSSFADE_ACCESS_KEY CROSSFADE_SECRET_KEY CROSSFADE_SESSION_TOKEN # not for the payload
url=$CROSSFADE_BUCKET_URL prefix=$CROSSFADE_PREFIX region=$CROSSFADE_REGION nothing=$CROSSFADE_NOTHING
directory=$CROSSFADE_DIRECTORY entry=$CROSSFADE_ENTRY beat=${CROSSFADE_BEAT:-15}
me=${CROSSFADE_POD:-${AWS_BATCH_JOB_ID:-$(uname -n)}.${AWS_BATCH_JOB_ATTEMPT:-1}}
unset CROSSFADE_BUCKET_URL CROSSFADE_PREFIX CROSSFADE_REGION CROSSFADE_NOTHING CROSSFADE_DIRECTORY CROSSFADE_ENTRY
unset CROSSFADE_BEAT CROSSFADE_POD_SCRIPT
base=$(pwd -P)
state=$base/.sync
small=16777216 # bytes: copied before they are hashed and sent, since they may be written to meanwhile

say() { printf 'crossfade: %s\n' "$*" >&2; }

# -- the bucket --------------------------------------------------------------------------------------------

coded() { # coded TEXT SAFE: the text as part of an address; SAFE: a class of characters that stay
    case $1 in
        *[!A-Za-z0-9._~/-]* | */*) ;;
        *) printf '%s' "$1" && return 0 ;;
    esac
    printf '%s\n' "$1" | awk -v safe="[A-Za-z0-9._~$2-]" '
        BEGIN { for (i = 1; i < 256; i++) code[sprintf("%c", i)] = sprintf("%%%02X", i) }
        {
            out = NR > 1 ? "%0A" : ""
            for (i = 1; i <= length($0); i++) { c = substr($0, i, 1); out = out (c ~ safe ? c : code[c]) }
            printf "%s", out
        }'
}

plain() { # of the lines on standard input, the text that an address stands for
    awk '
        BEGIN { for (i = 1; i < 256; i++) text[sprintf("%02X", i)] = sprintf("%c", i) }
        {
            gsub(/\+/, " ")
            out = ""
            while (match($0, /%[0-9A-Fa-f][0-9A-Fa-f]/)) {
                out = out substr($0, 1, RSTART - 1) text[toupper(substr($0, RSTART + 1, 2))]
                $0 = substr($0, RSTART + 3)
            }
            print out $0
        }'
}

quoted() { printf '%s' "$1" | sed 's/[\\"]/\\&/g'; }

ask() { # ask METHOD ADDRESS SHA256 [OPTIONS OF CURL]: status, 000 where no answer came; the body is in $answer
    method=$1 address=$2 sum=$3
    shift 3
    status=$(
        {
            printf 'user = "%s:%s"\n' "$(quoted "$access")" "$(quoted "$secret")"
            [ -z "$token" ] || printf 'header = "x-amz-security-token: %s"\n' "$(quoted "$token")"
        } | curl --config - --silent --show-error --request "$method" --connect-timeout 10 --speed-limit 1 --speed-time 60 \
            --aws-sigv4 "aws:amz:$region:s3" --header "x-amz-content-sha256: $sum" --header 'Expect:' \
            --output "$answer" --write-out '%{http_code}' "$@" "$address" 2>"$state/curl.err"
    ) || status=000
}

put() { # put FILE PATH [OPTIONS OF CURL]: the file into the bucket, with its digest, which the store compares
    file=$1 name=$2
    shift 2
    digest=$(sha256sum <"$file") && digest=${digest%% *}
    mode=600
    [ ! -x "$file" ] || mode=700
    ask PUT "$url/$(coded "$prefix$name" /)" "$digest" --upload-file "$file" --header 'content-type: application/octet-stream' \
        --header "x-amz-meta-sha256: $digest" --header "x-amz-meta-mode: $mode" "$@"
    [ "$status" = 200 ]
}

get() { # get PATH FILE
    answer=$2
    ask GET "$url/$(coded "$prefix$1" /)" "$nothing" --dump-header "$state/headers"
    answer=$state/answer
    [ "$status" = 200 ]
}

why() { # in a few words, after an `ask`
    if [ "$status" = 000 ]; then
        tr -d '\r' <"$state/curl.err" | head -n 1
    else
        printf '%s %s' "$status" "$(sed -n 's/.*<Code>\([A-Za-z]*\)<.*/\1/p' "$answer" 2>/dev/null | head -n 1)"
    fi
}

# -- before ------------------------------------------------------------------------------------------------

claim() { # one pod has this attempt: whoever puts this object first
    printf '%s\n' "$me" >"$state/me"
    tries=10
    while :; do
        if put "$state/me" "$directory/.crossfade/pod" --header 'if-none-match: *'; then return 0; fi
        if [ "$status" = 412 ] && get "$directory/.crossfade/pod" "$state/owner"; then
            [ "$(cat "$state/owner")" != "$me" ] || return 0 # our own, of which we had no answer
            say "not started: this attempt was claimed by pod $(head -c 200 "$state/owner")"
            exit 73
        fi
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || lost 'claim this attempt'
        sleep 2
    done
}

lost() {
    say "could not $1: $(why)"
    exit 77
}

fetch() { # all that lies below the attempt's folder
    after='' more=true
    while [ "$more" = true ]; do
        query="encoding-type=url&list-type=2&prefix=$(coded "$prefix$directory/" '')"
        [ -z "$after" ] || query="$query&start-after=$(coded "$after" '')"
        tries=5
        until ask GET "${url}?$query" "$nothing" && [ "$status" = 200 ]; do
            tries=$((tries - 1))
            [ "$tries" -gt 0 ] || lost 'list the job in the bucket'
            sleep 2
        done
        more=$(sed -n 's/.*<IsTruncated>\([a-z]*\)<.*/\1/p' "$answer")
        tr '<' '\n' <"$answer" | sed -n 's/^Key>//p' | plain >"$state/keys"
        while IFS= read -r key; do
            after=$key
            fetch_one "${key#"$prefix$directory/"}"
        done <"$state/keys"
    done
}

fetch_one() { # fetch_one PATH
    case /$1/ in
        */../* | */./* | *//* | *[[:cntrl:]\\]* | /.crossfade/pod/ | /.crossfade/pod.sh/ | /.crossfade/request/) return 0 ;;
    esac
    case $1 in */*) mkdir -p "./$directory/${1%/*}" ;; esac
    tries=5
    until get "$directory/$1" "./$directory/$1"; do
        [ "$status" != 404 ] || return 0
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || lost "fetch $1"
        sleep 2
    done
    mode=$(tr -d '\r' <"$state/headers" | sed -n 's/^[Xx]-[Aa]mz-[Mm]eta-[Mm]ode: *\([0-7][0-7]*\)$/\1/p')
    [ -z "$mode" ] || chmod "$mode" "./$directory/$1"
}

# -- beside the harness --------------------------------------------------------------------------------------

listed() { # "<inode> <size> <date> <path>" of every file of ours; what begins with a dot is not for others
    find .crossfade -type f ! -name '.*' ! -name request -exec ls -lni {} + 2>/dev/null | sed -nE \
        's/^ *([0-9]+) +[^ ]+ +[0-9]+ +[^ ]+ +[^ ]+ +([0-9]+) ([A-Z][a-z]+ +[0-9]+ +[0-9:]+) /\1 \2 \3 /p'
}

changed() { # what is not in the bucket as it is: new, or written to since the last look
    listed >"$state/now"
    find .crossfade -type f -newer "$state/looked" >"$state/newer" 2>/dev/null
    awk '
        { path = $0; if (part != "newer") sub(/^[0-9]+ [0-9]+ [A-Z][a-z]+ +[0-9]+ +[0-9:]+ /, "", path) }
        part == "pushed" { there[$0] = 1; next }
        part == "newer" { newer[path] = 1; next }
        !($0 in there) || (path in newer)
    ' part=pushed "$state/pushed" part=newer "$state/newer" part=now "$state/now" >"$state/changed"
}

send() { # send LINE: the file of a line of `listed`
    path=$(printf '%s\n' "$1" | sed -E 's/^[0-9]+ [0-9]+ [A-Z][a-z]+ +[0-9]+ +[0-9:]+ //')
    size=${1#* }
    deliver "$path" "$directory/$path" "${size%% *}" || return 1
    printf '%s\n' "$1" >>"$state/pushed"
}

deliver() { # deliver FILE PATH SIZE; a file that is gone by now needs no delivery
    source=$1
    if [ "$3" -lt "$small" ] || [ "${1##*/}" = stdout ] || [ "${1##*/}" = stderr ]; then
        cp "$1" "$state/copy" 2>/dev/null || { [ ! -e "$1" ] && return 0 || return 1; }
        source=$state/copy
    fi
    put "$source" "$2" && return 0
    [ -e "$1" ] || return 0
    say "$2 was not brought to the bucket: $(why)"
    return 1
}

push() { # all that is new: first what records speak of, then the records, and last the spool
    answer=$state/answer
    (cd "$base/spool" && find . -type f ! -name '.*') >"$state/spool"
    : >"$state/look"
    [ "$1" = final ] || sleep 1 # what is written in the same tick of the file system's clock must not be missed
    changed
    good=yes
    while IFS= read -r line; do
        case $line in *.started | *.checkpoint | *.exit) continue ;; esac
        send "$line" || good=''
    done <"$state/changed"
    [ -n "$good" ] || return 1
    if grep -q '\.exit$' "$state/changed"; then push_outputs || return 1; fi
    while IFS= read -r line; do
        case $line in *.started | *.checkpoint | *.exit) send "$line" || return 1 ;; esac
    done <"$state/changed"
    mv -f "$state/look" "$state/looked"
    while IFS= read -r line; do
        if grep -qxF "$line" "$state/told"; then continue; fi
        deliver "$base/spool/$line" "spool/${line#./}" 0 || return 1
        printf '%s\n' "$line" >>"$state/told"
    done <"$state/spool"
}

push_outputs() { # as the harness has listed them
    for manifest in .crossfade/g[0-9]*/outputs.manifest; do
        [ -f "$manifest" ] || continue
        sed -nE 's/^file [0-9a-f]{64} ([0-9]+) (.*)$/\1 \2/p' "$manifest" >"$state/outputs"
        while read -r size path; do
            grep -qxF "$path" "$state/outputs.told" && continue
            deliver "$path" "$directory/$path" "$size" || return 1
            printf '%s\n' "$path" >>"$state/outputs.told"
        done <"$state/outputs"
    done
}

hear() { # the broker's request, if there is one
    get "$directory/.crossfade/request" "$state/request" || return 0
    cp "$state/request" .crossfade/.request.new && mv -f .crossfade/.request.new .crossfade/request
    ask DELETE "$url/$(coded "$prefix$directory/.crossfade/request" /)" "$nothing"
}

beside() { # while the harness works; says itself when it is over
    trap '' TERM INT USR1
    waited=0
    until [ -e "$state/over" ]; do
        sleep 1
        waited=$((waited + 1))
        (cd "$base/spool" && find . -type f ! -name '.*') >"$state/seen"
        if grep -qvxFf "$state/told" "$state/seen"; then waited=$beat; fi # a record is not kept waiting
        [ "$waited" -ge "$beat" ] || continue
        push soon || :
        hear
        waited=0
    done
}

# -- the whole ---------------------------------------------------------------------------------------------

attend() { # code: the harness's exit code; a signal interrupts `wait`, and then we go on
    before=''
    while :; do
        signaled=''
        wait "$harness"
        code=$?
        [ -n "$signaled" ] || break
        before=$code
    done
    [ "$code" -ne 127 ] || [ -z "$before" ] || code=$before
}

# shellcheck disable=SC2329 # called by the traps
pass_on() {
    signaled=yes
    kill -s "$1" "$harness" 2>/dev/null
}

main() {
    mkdir -p "$state" "./$directory/.crossfade" spool
    answer=$state/answer
    : >"$answer"
    claim
    fetch
    cd "./$directory" || exit 77
    : >"$state/told" && : >"$state/outputs.told" && : >"$state/looked"
    listed >"$state/pushed"
    /bin/sh "$entry" >>.crossfade/wrapper.log 2>&1 &
    harness=$!
    trap 'pass_on TERM' TERM INT
    trap 'pass_on USR1' USR1
    beside &
    sync=$!
    attend
    : >"$state/over"
    while kill -0 "$sync" 2>/dev/null; do wait "$sync"; done
    tries=20
    until push final; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || lost 'bring the results to the bucket'
        sleep 3
    done
    exit "$code"
}

main
