"""What the rsync mover has either end do, as in `connectors.files.shell_scripts`: values come on stdin, one a line.

<root>/incoming/<key>/<stage>/<path>    what has arrived, under the paths that it has at its source
<root>/incoming/<key>/out/<n>/          a folder, put together to be renamed into place in one step
<root>/incoming/<key>.done              the receipt
"""

from __future__ import annotations

LOOK = """
main() {
    enter || return 0
    n=0
    while IFS= read -r path; do
        n=$((n + 1))
        case $path in */) below "${path%/}" ;; *) at "$path" ;; esac
    done
    still
}
at() { # one file: its size and when it was last written
    inside "$1" || { say u $n; return 0; }
    [ -f "$p" ] || { say m $n; return 0; }
    [ -r "$p" ] || { refuse 'Permission denied'; return 0; }
    facts=$(stat -L -c '%s %Y' -- "$p" 2>/dev/null) || { say m $n; return 0; }
    say s $n "$facts"
}
refuse() { say e $n; printf '%s\\n' "$1" | body; }
below() ( # all below a folder, and nothing left out in silence
    walk "$1" || { say u $n; exit 0; }
    [ -d "./$1" ] || { say m $n; exit 0; }
    cd "./$1" 2>/dev/null || { refuse 'Permission denied'; exit 0; }
    odd=$(find . -name "*$nl*" -print 2>&1 >/dev/null | head -n 1)
    [ -z "$odd" ] || { refuse "$odd"; exit 0; }
    odd=$(find . -name "*$nl*" -print | head -n 1)
    [ -z "$odd" ] || { refuse "a name with a line end in it: $odd"; exit 0; }
    odd=$(find . ! -type f ! -type d ! -type l -print | head -n 1)
    [ -z "$odd" ] || { refuse "neither a file nor a folder: $odd"; exit 0; }
    find . -type l -print | {
        while IFS= read -r link; do
            p=$(readlink -f -- "$link" 2>/dev/null) || p=
            case $p in "$here"/*) [ -f "$p" ] && continue ;; esac
            refuse "a link that leads to no file within the root: $link"
            exit 1
        done
    } || exit 0
    say l $n
    {
        find . \\( -type f -o -type d \\) -exec stat -c '%F/%s/%Y/%n' {} + 2>/dev/null
        find . -type l -exec stat -L -c '%F/%s/%Y/%n' {} + 2>/dev/null
    } | body
)
"""
"""s: a file, its size, seconds; l: a folder, with `kind/size/seconds/./path` lines."""

DIGESTS = """
main() {
    enter || return 0
    IFS= read -r below
    if [ -n "$below" ]; then
        walk "$below" || { say x root; return 0; }
        cd "./$below" 2>/dev/null || { say x root; return 0; }
    fi
    sum=sha256sum
    command -v sha256sum >/dev/null || sum='shasum -a 256'
    paths=$(cat)
    say l 1
    # shellcheck disable=SC2086 # a command with its option
    listed | xargs -0 -r $sum -- 2>/dev/null | body
    say l 2
    listed | xargs -0 -r stat -L -c '%s/%Y/%n' -- 2>/dev/null | body
    still
}
listed() {
    printf '%s\\n' "$paths" | while IFS= read -r path; do
        inside "$path" && [ -f "$p" ] && printf './%s\\0' "$path"
    done
}
"""
"""Of files below the root, or a folder in it: `sha256  ./path` lines, then `size/seconds/./path` lines."""

RECEIPT = """
main() {
    enter || return 0
    IFS= read -r key
    [ -f "incoming/$key.done" ] || { still; return 0; }
    say f 1
    head -c 4096 "incoming/$key.done" | body
}
"""
"""f: it is there, in the body."""

_MINE = """
mine() { # mine KEY: nobody else works on it, for as long as this script does
    command -v flock >/dev/null || return 0
    exec 9>>"incoming/$1/lock"
    flock -n -E 75 9 2>/dev/null
    [ $? -ne 75 ]
}
"""

READY = (
    _MINE
    + """
main() {
    enter || return 0
    IFS= read -r key && IFS= read -r stage
    walk "incoming/$key/$stage" || { say u 1; return 0; }
    why=$( (umask 077 && mkdir -p "incoming/$key/$stage" && touch "incoming/$key/$stage") 2>&1) || {
        say e 1; printf '%s\\n' "$why" | body; return 0; }
    mine "$key" || { say b; return 0; }
    # of an earlier look at a source that has changed since
    for old in "incoming/$key"/in-*; do [ "$old" = "incoming/$key/$stage" ] || rm -rf "$old"; done
    rm -rf "incoming/$key/out"
    # left behind by brokers that never came back
    find incoming -mindepth 2 -maxdepth 2 -type d -name 'in-*' -mtime +14 2>/dev/null |
        while IFS= read -r old; do rm -rf "$old" "${old%/*}/lock"; rmdir "${old%/*}" 2>/dev/null; done
    say w 1
}
"""
)
"""w: there is a folder for what arrives; b: somebody else brings the same just now."""

DROP = (
    _MINE
    + """
main() {
    enter || return 0
    IFS= read -r key
    walk "incoming/$key" || { say u 1; return 0; }
    [ -d "incoming/$key" ] || { say w 1; return 0; }
    mine "$key" || { say b; return 0; }
    rm -rf "incoming/$key"
    say w 1
}
"""
)
"""What has arrived was not what was sent: nothing of it is gone on with."""

BUSY = """
main() {
    enter || return 0
    IFS= read -r key
    if [ -e "incoming/$key/lock" ] && command -v flock >/dev/null; then
        flock -n -E 75 "incoming/$key/lock" true 2>/dev/null
        [ $? -ne 75 ] || { say b; return 0; }
    fi
    say w 1
}
"""
"""b: an rsync still writes there."""

PUBLISH = (
    _MINE
    + """
main() {
    enter || return 0
    IFS= read -r key && IFS= read -r stage && IFS= read -r receipt
    own=incoming/$key
    walk "$own/$stage" || { n=0 why='a symbolic link on the way'; fail; return 0; }
    [ -d "$own/$stage" ] || { say b; return 0; }
    mine "$key" || { say b; return 0; }
    sync -f "$own/$stage" 2>/dev/null
    n=0 base='' target=''
    while IFS= read -r verb && IFS= read -r from && IFS= read -r to && IFS= read -r mode; do
        n=$((n + 1))
        step || return 0
    done
    why=$({ (umask 077 && printf '%s' "$receipt" >"$own/receipt") && mv -f "$own/receipt" "$own.done"; } 2>&1) || {
        n=0
        fail
        return 0
    }
    rm -rf "$own"
    say w "$n"
}
fail() { say e $n; printf '%s\\n' "$why" | body; return 1; }
folder_for() { # folder_for PATH: what it lies in, made
    up "$1"
    walk "$folder" || { say u $n; return 1; }
    [ -d "./$folder" ] || why=$(mkdir -p "./$folder" 2>&1) || fail
}
step() {
    case $verb in
    file) put "$to" ;;
    begin) # a folder: put together aside and renamed into place, or where there is one already, into that
        target=$to base=$to
        folder_for "$to" || return 1
        if [ -e "./$to" ] || [ -L "./$to" ]; then
            walk "$to" || { say u $n; return 1; }
            [ -d "./$to" ] || { why='Not a directory'; fail; return 1; }
        else
            base=$own/out/$n
            why=$(mkdir -p "./$base" 2>&1) || fail
        fi ;;
    folder) folder_for "$base/$to/." ;;
    inner) put "$base/$to" ;;
    end)
        [ "$base" != "$target" ] || return 0
        why=$(mv "./$base" "./$target" 2>&1) || fail ;;
    esac
}
put() { # put PATH: one file to where it belongs
    folder_for "$1" || return 1
    if [ -d "./$1" ] && [ ! -L "./$1" ]; then why='Is a directory'; fail; return 1; fi
    case $mode in
    +*) # it is wanted once more
        mode=${mode#+} from_is="$own/again"
        why=$(cp -p "./$own/$stage/$from" "./$from_is" 2>&1) || { fail; return 1; } ;;
    *) from_is=$own/$stage/$from ;;
    esac
    [ -z "$mode" ] || why=$(chmod "$mode" "./$from_is" 2>&1) || { fail; return 1; }
    # a link to a folder would be moved into, not replaced
    why=$({ [ ! -L "./$1" ] || rm -f "./$1"; } && mv -f "./$from_is" "./$1" 2>&1) || fail
}
"""
)
"""Steps of four lines: verb, what has arrived, where it belongs, its mode (`+`: a copy). w: so many were done; b:
somebody else has put it in place, or is about to."""

SERVE = """\
fail() {{ echo "crossfade {where}: $1" >&2; exit 97; }}
cd -- {root} 2>/dev/null || fail 'the root is not there'
cd -- {folder} 2>/dev/null || fail 'the root is not there'
umask {umask}
command -v {program} >/dev/null || fail 'there is no such program'
{lock}exec {program} "$@"
"""
"""rsync at either end, in its folder. Values are quoted for sh; to the other end all of it goes as plain letters."""

LOCK = """\
if command -v flock >/dev/null; then
    exec 9>>../lock
    flock -n -E 75 9 2>/dev/null || [ $? -ne 75 ] || fail 'another one writes here'
fi
"""
"""Held as long as any of its processes lives."""
