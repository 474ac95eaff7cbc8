#!/bin/sh
# shellcheck disable=SC2154 # every cf_ name is assigned in job.conf, which is made per job
# crossfade's wrapper around one attempt's payload: `/bin/sh .crossfade/stage.sh` in the attempt's directory.
#
#   claim -> generation -> restore -> payload -> checkpoints, outputs -> exit record
#
# The same text for every job; all values come from job.conf. Beside the payload runs one watcher (`watch`): it keeps
# the heartbeat, the bounds and the requests, and it ends the payload when this shell was killed.
set -u
mask=$(umask)
umask 077
cf=.crossfade
nl='
'
# shellcheck source=/dev/null
. "./$cf/job.conf"
sha256=sha256sum
command -v sha256sum >/dev/null || sha256='shasum -a 256'

say() { printf 'crossfade: %s\n' "$*" >&2; }

clock() { # now: seconds; micros: microseconds, as far as this `date` knows them
    stamp=$(date '+%s.%N')
    now=${stamp%%.*}
    part=${stamp#*.}
    case $part in *[!0-9]* | '') part=000000000 ;; esac
    micros=$now${part%???}
}

# -- who we are --------------------------------------------------------------------------------------------

process() { # process PID: ticks, its start in clock ticks; empty where there is no /proc
    ticks='' line=''
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 0
    set -f
    # shellcheck disable=SC2086 # the fields after the command's name, split on purpose
    set -- ${line##*) }
    set +f
    ticks=${20}
}

plain() { # plain TEXT: word, the text with nothing but letters, digits, _ and -
    word=${1:-none}
    case $word in *[!A-Za-z0-9_-]*) word=$(printf '%s' "$word" | LC_ALL=C tr -c 'A-Za-z0-9_-' '_') ;; esac
}

identify() { # me: <native>.<restart>.<host>.<boot>.<nonce>; the nonce begins with the time of the claim
    native='' restarts='' boot='' host='' nonce=''
    [ -z "$cf_native_var" ] || eval "native=\${$cf_native_var:-}"
    [ -z "$cf_restart_var" ] || eval "restarts=\${$cf_restart_var:-}"
    if [ -z "$native" ]; then
        process $$
        native=$$-$ticks
    fi
    { read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null || boot=unknown
    { read -r host </proc/sys/kernel/hostname; } 2>/dev/null || host=$(uname -n)
    { read -r nonce </proc/sys/kernel/random/uuid; } 2>/dev/null || nonce=$$
    plain "$native" && native=$word
    plain "${restarts:-0}" && restarts=$word
    plain "$host" && host=$word
    plain "$boot" && boot=$word
    me=$native.$restarts.$host.$boot.$now-${nonce%%-*}
}

# -- the start gate ----------------------------------------------------------------------------------------

link_of() { # link: the claim of generation $1
    if [ "$1" -eq 1 ]; then link=$cf/claim; else link=$cf/claim.$1; fi
}

gate() { # generation: ours from here on; or exit 73, with nothing touched
    last=0
    while link_of $((last + 1)) && [ -L "$link" ]; do last=$((last + 1)); done
    if [ "$last" -gt 0 ]; then
        if ended "$last"; then
            announce_all
            refuse 'this attempt has already ended'
        fi
        [ "$cf_duplicates" = allow ] || refuse 'this attempt may be started once only'
        silent "$last" || refuse "generation $last is alive"
        ended "$last" && refuse 'this attempt has just ended'
        reap "$last"
        clock # we may have waited
        identify
    fi
    generation=$((last + 1))
    link_of "$generation"
    # one atomic step that carries the name; read back, since NFS may answer "exists" to the winner
    ln -s "$me" "$link" 2>/dev/null
    [ "$(readlink "$link")" = "$me" ] || refuse "generation $generation was claimed by another"
}

refuse() {
    say "not started: $1"
    exit 73
}

superseded() { [ -L "$cf/claim.$((generation + 1))" ]; }

ended() { # ended N: has generation N a whole exit record?
    for file in "$cf/g$1"/[0-9]*.exit; do
        whole "$file" && return 0
    done
    return 1
}

whole() { # whole FILE: a record with its last line
    last_line=''
    { while IFS= read -r line; do last_line=$line; done <"$1"; } 2>/dev/null
    [ "$last_line" = end ]
}

life_of() { # life_of N: the last sign of life of generation N: its heartbeat or, before the first, its claim
    life=''
    { read -r life <"$cf/g$1/heartbeat"; } 2>/dev/null
    case $life in *[!0-9]* | '') life=${owner##*.} && life=${life%%-*} ;; esac
    case $life in *[!0-9]* | '') life=0 ;; esac
}

silent() { # silent N: has generation N been silent for the fence time?
    link_of "$1"
    owner=$(readlink "$link")
    life_of "$1"
    seen=$life
    age=$((now - life))
    case $owner in
        *."$host.$boot".*) doubt=0 ;;
        *) doubt=$((cf_beat + 1)) ;; # another machine's clock: believe it only after looking twice
    esac
    if [ "$age" -lt 0 ]; then
        doubt=$((cf_fence + 1))
    elif [ "$age" -le "$cf_fence" ]; then
        # a requeue of the same job may wait until its predecessor is surely gone; a stranger may not
        case $owner in "$native".*) doubt=$((cf_fence + 1 - age + doubt)) ;; *) return 1 ;; esac
    fi
    while [ "$doubt" -gt 0 ]; do
        sleep 1
        doubt=$((doubt - 1))
        life_of "$1"
        [ "$life" = "$seen" ] || return 1
    done
}

reap() { # reap N: end what a killed wrapper left running, where that is this very machine
    case $owner in *."$host.$boot".*) ;; *) return 0 ;; esac
    pid='' since=''
    { read -r pid since <"$cf/g$1/payload"; } 2>/dev/null || return 0
    process "$pid"
    [ -n "$since" ] && [ "$ticks" = "$since" ] || return 0
    kill -s KILL -- "-$pid" 2>/dev/null || kill -s KILL "$pid" 2>/dev/null
    return 0
}

# -- records: in this generation's folder, then whole or not at all in the spool -----------------------------

number() { # n: the next number of this generation's records, never given twice
    n=1
    until (set -C && : >"$gen/.n$n") 2>/dev/null; do
        n=$((n + 1))
        [ "$n" -lt 1000000 ] || return 1
    done
}

record() { # record KIND TEXT: a full disk is given two more seconds; then the next start must announce it
    number || return 1
    tries=3
    until publish "$cf_key.$generation.$n.$1" "$gen/$n.$1" "$2" 2>/dev/null; do
        tries=$((tries - 1))
        if [ "$tries" -eq 0 ]; then
            say "the record of kind $1 could not be written"
            return 1
        fi
        sleep 1
    done
}

publish() { # publish NAME FILE TEXT
    # the file may be torn, it is read with `whole`; what the spool shows may not
    printf '%s' "$3" >"$2" && printf '%s' "$3" >"$cf_spool/.$1" && mv -f "$cf_spool/.$1" "$cf_spool/$1"
}

announce_all() { # what former generations wrote but, killed, could not put into the spool
    for file in "$cf"/g[0-9]*/[0-9]*.started "$cf"/g[0-9]*/ckpt/[0-9]*/[0-9]*.checkpoint "$cf"/g[0-9]*/[0-9]*.exit; do
        whole "$file" || continue
        case $file in *.checkpoint) [ -e "${file%/*}/manifest" ] || continue ;; esac
        name=${file#"$cf"/g}
        name=$cf_key.${name%%/*}.${file##*/}
        [ -e "$cf_spool/$name" ] && continue
        cp "$file" "$cf_spool/.$name.$$" && mv -f "$cf_spool/.$name.$$" "$cf_spool/$name"
    done
}

# -- restoring ---------------------------------------------------------------------------------------------

restore() { # from, from_seq: the newest checkpoint that verifies; 1: one was promised, and none does
    from='' from_seq=''
    if [ "$generation" -gt 1 ]; then
        for found in $(former_checkpoints); do
            seq=${found%%:*}
            [ -z "$cf_restore" ] || [ "$seq" -gt "$cf_restore" ] || continue
            take "${found#*:}" "$seq" && return 0
            say "checkpoint $seq of a former generation does not verify"
        done
    fi
    [ -n "$cf_restore" ] || return 0
    take "$cf/restore" "$cf_restore"
}

former_checkpoints() { # <seq>:<folder>, newest first
    for file in "$cf"/g[0-9]*/ckpt/[0-9]*/manifest; do
        [ -s "$file" ] || continue
        dir=${file%/manifest}
        seq=${dir##*/}
        seq=${seq#"${seq%%[!0]*}"} # 0012 would be octal
        printf '%s:%s\n' "${seq:-0}" "$dir"
    done | sort -rn
}

take() { # take FOLDER SEQ
    verify "$1" "$2" || return 1
    if [ "$cf_style" = in_place ]; then put_back "$1/files" || return 1; fi
    from=$here/$1/files from_seq=$2
}

verify() { # verify FOLDER SEQ: does every file of the manifest have its digest? leaves the list in .sums
    [ -f "$1/manifest" ] && [ -d "$1/files" ] || return 1
    [ -z "$(find "$1/files" ! -type f ! -type d)" ] || return 1
    LC_ALL=C awk -v want="$2" '
        NR == 1 && $0 != "crossfade-manifest 1" { bad = 1 }
        { last = $0 }
        $1 == "seq" && $2 != want { bad = 1 }
        $1 == "file" {
            path = $0
            if (!sub(/^file [0-9a-f]+ [0-9]+ /, "", path) || length($2) != 64) bad = 1
            if (("/" path "/") ~ /\/\.?\.?\// || path ~ /\\/ || path ~ /^\.crossfade\//) bad = 1
            print $2 "  " path
            files++
        }
        END { exit (bad || !files || last != "end") }' "$1/manifest" >"$gen/.sums" || return 1
    # shellcheck disable=SC2086 # a command with its option
    (cd "$1/files" && $sha256 -c -) <"$gen/.sums" >/dev/null 2>&1
}

put_back() { # put_back FILES: to their places in the working directory
    while IFS= read -r line; do
        path=${line#*  }
        case $path in
            */*)
                if through_link "${path%/*}"; then return 1; fi
                mkdir -p "./${path%/*}" || return 1
                ;;
        esac
        # removed first: it may be a hard link to the checkpoint itself
        rm -f "./$path" && cp -p "$1/$path" "./$path" || return 1
    done <"$gen/.sums"
}

through_link() { # through_link PATH: is any part of it a symbolic link?
    walked=. rest=$1/
    while [ -n "$rest" ]; do
        walked=$walked/${rest%%/*}
        rest=${rest#*/}
        [ -L "$walked" ] && return 0
    done
    return 1
}

# -- inputs that were brought ----------------------------------------------------------------------------------

inputs_there() { # missing: the record's lines for inputs that are not as they were brought, 100 at most; 1: some are not
    [ -e "$cf/inputs" ] || return 0
    for file in "$cf"/g[0-9]*/[0-9]*.started; do
        [ -e "$file" ] && return 0 # the payload has run here: what it did to its inputs is its own affair
    done
    # sizes alone: who brought them has compared the digests. One pass, however many there are
    missing=$(sizes . -name .crossfade -prune -o \( -type f -o -type l \) | LC_ALL=C awk -v most=100 '
        part == "sizes" { at = index($0, " "); size[substr($0, at + 3)] = substr($0, 1, at - 1); next }
        $0 == "crossfade-inputs 1" && FNR == 1 { parts++ }
        $1 == "count" { count = $2 }
        $0 == "end" { ends++ }
        $1 == "file" {
            files++
            path = substr($0, length($2) + 7)
            if (path in size && size[path] "" == $2 "") next
            if (bad++ >= most) next
            if (path in size) print "wrong_size", size[path], path
            else print "missing", path
        }
        END {
            if (parts != ends || files != count) print "missing .crossfade/inputs" # torn
            if (bad > most) printf "crossfade: %d inputs are not as they were brought\n", bad | "cat 1>&2"
        }' part=sizes - part=inputs "$cf"/inputs*)
    [ -n "$missing" ] || return 0
    missing=$missing$nl
    return 1
}

sizes() { # sizes FIND-WORDS...: "<bytes> <path>" of each file that `find` comes to, a process for thousands of them
    if stat -Lc '%s %n' . >/dev/null 2>&1; then
        LC_ALL=C find "$@" -exec stat -Lc '%s %n' {} + 2>/dev/null
    else # an `ls` may write `?` for what is not ASCII; busybox's does, and has that `stat`
        LC_ALL=C find "$@" -exec ls -lnL {} + 2>/dev/null | LC_ALL=C awk '{ print $5, substr($0, index($0, " ./") + 1) }'
    fi
}

not_started() { # not_started: an input is not there; or looking for it was broken off
    if [ -e "$gen/.stop" ]; then finish stopped 0; fi
    finish input_missing 77
}

# -- inputs that are read where they lie ---------------------------------------------------------------------

link_inputs() { # missing: the record's lines for what is not in its place; 1: there is some
    [ -e "$cf/links" ] || return 0
    while IFS= read -r name && IFS= read -r target && IFS= read -r match && IFS= read -r patience; do
        if comes "$target" "$patience" && link_one; then continue; fi
        missing="${missing}missing $name$nl"
    done <"$cf/links"
    [ -z "$missing" ]
}

comes() { # comes TARGET SECONDS: is it there, or will it be within so long? the watcher keeps the heartbeat meanwhile
    left=$2
    until [ -e "$1" ]; do
        clock
        [ "$left" -gt 0 ] && [ ! -e "$gen/.stop" ] || return 1
        if [ -n "$end" ] && [ "$now" -ge "$end" ]; then return 1; fi
        pace=5
        [ "$left" -ge 5 ] || pace=$left
        sleep "$pace"
        left=$((left - pace))
    done
}

link_one() { # name, target, match: one link, or one for each file of the folder that matches
    if [ -z "$match" ]; then
        link_to "$name" "$target"
        return
    fi
    [ -d "$target" ] || return 1
    (cd "$target" && find -L . -type f) >"$gen/.matching" || return 1
    while IFS= read -r found; do
        found=${found#./}
        # shellcheck disable=SC2254 # a pattern, on purpose
        case $found in $match) link_to "$name/$found" "$target/$found" || return 1 ;; esac
    done <"$gen/.matching"
    (umask "$mask" && mkdir -p "./$name")
}

link_to() { # link_to NAME TARGET: through no link of anybody's; a former generation's own link is as good
    case $1 in
        */*)
            if through_link "${1%/*}"; then return 1; fi
            (umask "$mask" && mkdir -p "./${1%/*}") || return 1
            ;;
    esac
    if [ -L "./$1" ] && [ "$(readlink "./$1")" = "$2" ]; then return 0; fi
    [ ! -e "./$1" ] && [ ! -L "./$1" ] && ln -s "$2" "./$1"
}

# -- checkpoints that the wrapper finds by pattern ----------------------------------------------------------

scan() { # scan PATTERN GROUP: "<number> <inode> <size> <date> <path>" of every file whose whole name matches
    folder=. listed='^ *([0-9]+) +[^ ]+ +[0-9]+ +[^ ]+ +[^ ]+ +([0-9]+) ([A-Z][a-z]+ +[0-9]+ +[0-9:]+) '
    [ "$cf_path" = . ] || folder=./$cf_path
    [ -d "$folder" ] || return 0
    LC_ALL=C find "$folder" -name .crossfade -prune -o -type f -exec ls -lni {} + 2>/dev/null |
        LC_ALL=C sed -nE "s$mark$listed\./($1)\$$mark\\$2 \\1 \\2 \\3 \\4${mark}p"
}

collect() { # collect settled|final: commit what is whole; anything from before this generation is none of ours
    scan "$cf_match" "$cf_match_group" >"$gen/.now"
    : >"$gen/.marks"
    [ -z "$cf_complete" ] || scan "$cf_complete" "$cf_complete_group" >"$gen/.marks"
    [ -e "$gen/.seen" ] || : >"$gen/.seen"
    LC_ALL=C awk -v mode="$1" -v marker="$cf_complete" '
        { seq = $1 + 0 }
        $1 !~ /^[0-9]+$/ || length($1) > 12 || part == "base" { base[$0] = 1 }
        $0 in base { next }
        part == "seen" { before[$0] = 1; left[seq]++; next }
        part == "marks" { marked[seq] = 1 }
        part == "now" { there[seq] = 1; left[seq]--; if (!($0 in before)) moved[seq] = 1 }
        !taken[$0]++ { line[++lines] = $0; of[lines] = seq }
        END {
            for (i = 1; i <= lines; i++) {
                s = of[i]
                settled = mode == "final" || (!moved[s] && left[s] == 0)
                if (there[s] && (marker != "" ? marked[s] : settled)) print s, line[i]
            }
        }' part=base "$gen/.base" part=seen "$gen/.seen" part=marks "$gen/.marks" part=now "$gen/.now" >"$gen/.ready"
    mv -f "$gen/.now" "$gen/.seen"
    [ -s "$gen/.ready" ] || return 0
    # shellcheck disable=SC2013 # numbers are words
    for seq in $(cut -d ' ' -f 1 "$gen/.ready" | sort -nu); do
        if superseded; then return 0; fi
        sed -n "s/^$seq //p" "$gen/.ready" >"$gen/.one"
        sed -E 's/^[0-9]+ [0-9]+ [0-9]+ [A-Z][a-z]+ +[0-9]+ +[0-9:]+ //' "$gen/.one" |
            /bin/sh "$cf/bin/crossfade-checkpoint" --found --seq "$seq"
        cat "$gen/.one" >>"$gen/.base"
    done
}

# -- the watcher -------------------------------------------------------------------------------------------

watch() {
    woken='' nap='' ending='' kill_at='' stop_at='' asked_end='' next_ask='' collector='' pause=$cf_beat
    trap 'woken=yes; [ -z "$nap" ] || kill "$nap" 2>/dev/null' USR1
    trap : TERM INT HUP
    while :; do
        woken=
        [ -e "$gen/.over" ] && return 0
        [ -e "$gen/.stop" ] && pause=1
        sleep "$pause" &
        nap=$!
        [ -n "$woken" ] || wait "$nap"
        [ -z "$woken" ] || kill "$nap" 2>/dev/null
        nap=
        [ -e "$gen/.over" ] || tick
    done
}

tick() {
    if orphaned; then
        [ -e "$gen/payload" ] || sleep 1 # it may be just about to say its name
        tell_payload KILL
        exit 1
    fi
    clock
    printf '%s\n' "$now" >"$gen/heartbeat"
    pause=$cf_beat
    if [ -e "$gen/.ended" ]; then
        idle && : >"$gen/.idle"
        pause=1
        return 0
    fi
    [ -e "$gen/payload" ] || return 0
    if superseded; then conclude superseded "$cf_grace"; fi
    hear
    [ -z "$cf_ask_kind" ] || ask_in_time
    [ ! -e "$gen/.stop" ] || stop
    [ -z "$end" ] || [ "$now" -lt "$end" ] || conclude timed_out "$lead"
    [ -z "$kill_at" ] || [ "$now" -lt "$kill_at" ] || tell_payload KILL
    if [ -n "$cf_match" ] && idle; then
        collect settled &
        collector=$!
    fi
    [ -z "$end" ] || [ -n "$ending" ] || wake_at "$end"
    [ -z "$kill_at$stop_at" ] || pause=1
}

wake_at() { # no later than second $1
    [ $(($1 - now)) -ge "$pause" ] || pause=$(($1 - now))
    [ "$pause" -ge 1 ] || pause=1
}

idle() { # no collector at work
    [ -z "$collector" ] && return 0
    kill -0 "$collector" 2>/dev/null && return 1
    collector=
}

orphaned() { # was the wrapper killed? its zombie would still answer to `kill -0`
    { read -r line </proc/self/stat; } 2>/dev/null || { ! kill -0 $$ 2>/dev/null && return 0 || return 1; }
    line=${line##*) }
    line=${line#* }
    [ "${line%% *}" != $$ ]
}

tell_payload() { # tell_payload SIGNAL: to all of its processes
    pid=''
    { read -r pid since <"$gen/payload"; } 2>/dev/null
    [ -n "$pid" ] || return 0
    kill -s "$1" -- "-$pid" 2>/dev/null || kill -s "$1" "$pid" 2>/dev/null
}

conclude() { # conclude VERDICT SECONDS: TERM now, KILL after; the first verdict stays
    [ -z "$ending" ] || return 0
    ending=$1
    [ -s "$gen/.verdict" ] || printf '%s\n' "$1" >"$gen/.verdict"
    tell_payload TERM
    kill_at=$((now + $2))
    [ "$2" -gt 0 ] || kill_at=$((now + 1))
}

hear() { # the broker's request, once; and the scheduler's signals, which the wrapper has noted down
    if [ -f "$cf/request" ] && mv -f "$cf/request" "$gen/request.$now" 2>/dev/null; then
        wish=''
        { read -r wish <"$gen/request.$now"; } 2>/dev/null
        case $wish in
            stop) : >"$gen/.stop" ;;
            checkpoint) ask request ;;
            *) say 'a request with an unknown word was put aside' ;;
        esac
    fi
    if [ -e "$gen/.ask" ]; then
        rm -f "$gen/.ask"
        ask signal
    fi
}

ask_in_time() {
    if [ -n "$cf_every" ]; then
        [ -n "$next_ask" ] || next_ask=$((now + cf_every))
        if [ "$now" -ge "$next_ask" ]; then
            ask every
            next_ask=$((now + cf_every))
        fi
        wake_at "$next_ask"
    fi
    [ -n "$end" ] && [ "$cf_before_end" -gt 0 ] && [ -z "$asked_end" ] || return 0
    if [ "$now" -ge $((end - cf_before_end)) ]; then
        asked_end=yes
        ask before_end
    else
        wake_at $((end - cf_before_end))
    fi
}

ask() { # ask WHY: for a checkpoint, in the way that this payload knows
    case $cf_ask_kind in
        file) (umask "$mask" && mkdir -p "$(dirname "./$cf_ask_value")" && : >"./$cf_ask_value") ;;
        signal) tell_payload "$cf_ask_value" ;;
        command) /bin/sh -eu "$cf/ask.sh" </dev/null >>"$gen/stdout" 2>>"$gen/stderr" & ;;
        *) return 0 ;;
    esac
    printf '%s\n' "$1" >"$gen/.asked"
}

stop() { # ask, wait for a newer checkpoint, but not for ever; then end
    newest
    if [ -z "$stop_at" ]; then
        [ -s "$gen/.verdict" ] || printf 'stopped\n' >"$gen/.verdict"
        stop_at=$now stop_seq=$seq
        if [ -n "$cf_ask_kind" ]; then
            ask stop
            stop_at=$((now + cf_grace))
            [ "$cf_before_end" -le "$cf_grace" ] || stop_at=$((now + cf_before_end))
        fi
    fi
    if [ "$now" -ge "$stop_at" ] || [ "$seq" != "$stop_seq" ]; then conclude stopped "$cf_grace"; fi
}

newest() { # seq: the newest checkpoint of this generation
    seq=''
    { read -r seq <"$gen/.last"; } 2>/dev/null
    return 0
}

# -- outputs -----------------------------------------------------------------------------------------------

outputs() { # count, digest of outputs.manifest; missing: the record's lines for what should be there
    count=0 digest='' missing=''
    [ -e "$cf/outputs" ] || return 0
    set --
    while IFS= read -r line; do
        path=${line#* }
        if [ -e "./$path" ] && sound "$path"; then
            set -- "$@" "./$path"
        elif [ "${line%% *}" = required ]; then
            missing="${missing}missing $path$nl"
        fi
    done <"$cf/outputs"
    [ $# -gt 0 ] || return 0
    # shellcheck disable=SC2086 # a command with its option
    LC_ALL=C find -L "$@" -type f -exec $sha256 {} + >"$gen/.sums"
    sizes -L "$@" -type f >"$gen/.sizes"
    {
        printf 'crossfade-manifest 1\nseq 0\n'
        LC_ALL=C awk '
            part == "sizes" { at = index($0, " "); size[substr($0, at + 3)] = substr($0, 1, at - 1); next }
            { path = substr($0, 69) }
            !seen[path]++ { print "file", substr($0, 1, 64), size[path], path }
        ' part=sizes "$gen/.sizes" part=sums "$gen/.sums" | LC_ALL=C sort -k 4
        printf 'end\n'
    } >"$gen/.manifest"
    mv -f "$gen/.manifest" "$gen/outputs.manifest"
    count=$(grep -c '^file ' "$gen/outputs.manifest")
    # shellcheck disable=SC2086 # a command with its option
    digest=$($sha256 <"$gen/outputs.manifest")
    digest=${digest%% *}
}

sound() { # sound PATH: nothing in it leads out of the directory, or has a name that no record can hold
    if through_link "$1"; then stays "./$1" || return 1; fi
    find -H "./$1" \( -type l -o -name '*[[:cntrl:]\\]*' \) >"$gen/.odd"
    while IFS= read -r odd; do
        [ -L "$odd" ] && [ -f "$odd" ] && stays "$odd" || return 1
    done <"$gen/.odd"
}

stays() { # stays LINK
    case $(readlink -f "$1") in
        "$here/$cf"/*) return 1 ;;
        "$here"/*) return 0 ;;
        *) return 1 ;;
    esac
}

# -- the payload -------------------------------------------------------------------------------------------

bounds() { # end: when the payload is told to end; lead: the seconds kept for its ending
    end=$cf_stop_before lead=$cf_grace
    if [ -n "$cf_walltime" ]; then
        [ -n "$end" ] && [ "$end" -le $((now + cf_walltime)) ] || end=$((now + cf_walltime))
    fi
    [ -n "$end" ] || return 0
    [ "$lead" -le $(((end - now) / 10)) ] || lead=$(((end - now) / 10))
    end=$((end - lead))
}

too_late() {
    [ -n "$cf_start_before" ] && [ "$now" -gt "$cf_start_before" ] && return 0
    [ -n "$end" ] && [ "$now" -ge "$end" ]
}

tell_environment() {
    export CROSSFADE_KEY="$cf_key" CROSSFADE_GENERATION="$generation" CROSSFADE_CHECKPOINT_DIR="$here/$gen/ckpt"
    unset CROSSFADE_RESTORE_DIR CROSSFADE_RESTORE_SEQ CROSSFADE_SECONDS_LEFT
    [ -z "$from" ] || export CROSSFADE_RESTORE_DIR="$from" CROSSFADE_RESTORE_SEQ="$from_seq"
    [ -z "$end" ] || export CROSSFADE_SECONDS_LEFT=$((end - now))
}

launch() { # payload: its process, the leader of a session of its own where the site can do that
    script=$cf/payload.sh
    if [ -e "$cf/restart.sh" ] && [ -n "$from" ]; then script=$cf/restart.sh; fi
    (
        umask "$mask"
        if command -v setsid >/dev/null; then exec setsid /bin/sh -eu "$script"; fi
        exec /bin/sh -eu "$script"
    ) </dev/null >"$gen/stdout" 2>"$gen/stderr" &
    payload=$!
}

attend() { # code: the payload's exit code; a signal interrupts `wait`, and then we go on
    before=''
    while :; do
        signaled=''
        wait "$payload"
        code=$?
        [ -n "$signaled" ] || break
        before=$code
        # bash may have reaped it in the signal's very moment and forgotten so: a second wait would never return.
        # How it ended is lost then, and it counts as stopped: to run a part again is safe, to believe in it is not
        if [ -n "${BASH_VERSION:-}" ] && ! kill -0 "$payload" 2>/dev/null; then
            : >"$gen/.stop"
            break
        fi
    done
    # ended in the very moment of a signal: the first wait had its code, the second knows of no such process
    if [ "$code" -eq 127 ]; then
        case $before in '' | 129 | 130 | 138 | 143) ;; *) code=$before ;; esac
    fi
}

# shellcheck disable=SC2329 # called by the traps
note() { # note stop|ask: a signal from the scheduler, for the watcher to act upon
    signaled=yes
    : >"$gen/.$1"
    kill -s USR1 "$watcher" 2>/dev/null
}

settle() { # after the payload: its leftovers, its verdict, its last checkpoint, its outputs
    : >"$gen/.ended"
    kill -s KILL -- "-$payload" 2>/dev/null
    # a scheduler signals one process after the other: where the payload was before us, our own signal is on its way
    case $code in 129 | 130 | 143) [ -e "$gen/.stop" ] || sleep 1 ;; esac
    verdict=''
    { read -r verdict <"$gen/.verdict"; } 2>/dev/null
    # a scheduler that signals the whole group ends the payload before the watcher can: that is a stop, no failure
    if [ -z "$verdict" ] && [ -e "$gen/.stop" ] && [ "$code" -gt 128 ]; then verdict=stopped; fi
    if superseded; then give_way; fi
    if [ -n "$cf_match" ]; then
        kill -s USR1 "$watcher" 2>/dev/null
        until [ -e "$gen/.idle" ] || ! kill -0 "$watcher" 2>/dev/null; do
            sleep 0.05 2>/dev/null || sleep 1
        done
        collect final
    fi
    kind=failed
    if [ "$code" -eq 0 ]; then
        kind='done'
        outputs
    fi
    [ -z "$verdict" ] || kind=$verdict
}

finish() { # finish KIND CODE: the exit record, then goodbye
    clock
    asked=''
    { read -r asked <"$gen/.asked"; } 2>/dev/null
    text="crossfade-exit 1${nl}key $cf_key${nl}generation $generation${nl}kind $1${nl}exit_code $2$nl"
    [ "$2" -le 128 ] || [ "$2" -gt 192 ] || text="${text}signal $(($2 - 128))$nl"
    text="${text}started_at $began${nl}ended_at $micros${nl}outputs_count $count$nl"
    [ -z "$digest" ] || text="${text}outputs_digest $digest$nl"
    [ -z "$asked" ] || text="${text}asked $asked$nl"
    if superseded; then give_way; fi
    record exit "$text${missing}end$nl"
    leave "$2"
}

give_way() {
    say "generation $generation gives way to a newer one"
    leave 74
}

leave() { # leave CODE: the watcher first, so that nothing of ours is left behind
    : >"$gen/.over"
    kill -s USR1 "$watcher" 2>/dev/null
    wait "$watcher"
    exit "$1"
}

main() {
    here=$(pwd -P)
    clock
    identify
    gate
    gen=$cf/g$generation
    mkdir -p "$gen/ckpt" || exit 1
    [ -d "$cf_spool" ] || mkdir -p "$cf_spool"
    began=$micros count=0 digest='' missing='' from='' from_seq='' mark=''
    [ -z "$cf_match" ] || mark=$(printf '\001')
    printf '%s\n' "$now" >"$gen/heartbeat"
    bounds
    tell_environment
    trap '' USR1 # not yet: a watcher that has not set its trap must not die of it
    watch </dev/null >/dev/null 2>>"$gen/watch.log" &
    watcher=$!
    trap 'note stop' TERM INT HUP
    trap 'note ask' USR1
    if [ "$generation" -gt 1 ]; then announce_all; fi
    if too_late; then finish too_late 75; fi
    inputs_there || not_started
    restore || finish restore_failed 76
    link_inputs || not_started
    if [ -n "$cf_match" ]; then
        scan "$cf_match" "$cf_match_group" >"$gen/.base"
        [ -z "$cf_complete" ] || scan "$cf_complete" "$cf_complete_group" >>"$gen/.base"
    fi
    if [ "$cf_ask_kind" = file ] && [ -e "./$cf_ask_value" ]; then rm -f "./$cf_ask_value"; fi
    if [ -n "$from" ] || [ "$generation" -gt 1 ]; then # that took its time
        clock
        began=$micros
        tell_environment
    fi
    if superseded; then give_way; fi
    if [ -e "$gen/.stop" ]; then finish stopped 0; fi
    text="crossfade-started 1${nl}key $cf_key${nl}generation $generation${nl}owner $me${nl}host $host${nl}"
    text="${text}started_at $began${nl}native_id $native$nl"
    [ -z "$from" ] || text="${text}restore_seq $from_seq$nl"
    record started "${text}end$nl"
    launch
    attend
    settle
    finish "$kind" "$code"
}

main
