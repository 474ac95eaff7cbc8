"""What `connectors.files.shell` has a site's shell do: POSIX sh, the same text for every call.

Values come on stdin, one a line (paths of ours hold no newline); contents, which may be any bytes, as base64. Nothing
is ever pasted into a script. What is told back are lines between two marks:

    KIND [NUMBER [FACT...]]       of the how-manieth question
    base64...                     where the kind has a body, up to a line with a dot

x: the whole call failed (root, identity, or text in the body); u: leads out of the root; m: not there; e: failed, text.
"""

from __future__ import annotations

UNMARKED = "-"
"""In the place of an identity: the root has none."""

HEAD = """\
LC_ALL=C; export LC_ALL; unset CDPATH
nl='
'
say() { printf '%s\\n' "$*"; }
body() { base64 && say .; }
walk() { # walk PATH: 1: a part of it is a symbolic link
    w=. r=$1/
    while [ -n "$r" ]; do
        w=$w/${r%%/*} r=${r#*/}
        [ ! -L "$w" ] || return 1
    done
}
inside() { # inside PATH: p, what to open; 1: a link leads out
    p=./$1
    walk "$1" && return 0
    p=$(readlink -f -- "./$1" 2>/dev/null) || p=./.crossfade/nothing
    case $p in ./.crossfade/nothing | "$here"/*) ;; *) return 1 ;; esac
}
size_of() { # 1: it has gone meanwhile; arithmetic with nothing would end the shell
    size=$(stat -L -c %s -- "$1" 2>/dev/null) || size=$(wc -c <"$1" 2>/dev/null)
    [ -n "$size" ] && size=$((size))
}
up() { # up PATH: folder, where the file is
    case $1 in */*) folder=${1%/*} ;; *) folder=. ;; esac
}
enter() {
    [ -n "$mask" ] && umask "$mask"
    cd -- "$root" 2>/dev/null || { say x root; return 1; }
    here=$(pwd -P)
    [ "$known" != - ] || return 0
    { IFS= read -r mark <.crossfade-site; } 2>/dev/null || { say x marker; return 1; }
    case $known in '' | "$mark") say i "$mark" ;; *) say x identity; return 1 ;; esac
}
still() { # the root may have gone away in the middle: what was found missing then says nothing
    if [ "$known" = - ]; then [ -d "$here" ] || say x root; return 0; fi
    { IFS= read -r mark <"$here/.crossfade-site"; } 2>/dev/null || say x marker
}
IFS= read -r nonce && IFS= read -r root && IFS= read -r mask && IFS= read -r known
"""
"""Functions, and the first four lines of stdin; `enter` goes to the root and proves that it is the one we know."""

TAIL = """
printf '\\ncrossfade %s begin\\n' "$nonce"
main
printf '\\ncrossfade %s end\\n' "$nonce"
"""

READ = """
main() {
    enter || return 0
    n=0
    while IFS= read -r offset && IFS= read -r limit && IFS= read -r path; do
        n=$((n + 1))
        inside "$path" || { say u $n; continue; }
        [ -f "$p" ] || { say m $n; continue; }
        [ -r "$p" ] || { say e $n; say 'Permission denied' | body; continue; }
        size_of "$p" || { say m $n; continue; }
        case $offset in -*) offset=$((size + offset)); [ "$offset" -ge 0 ] || offset=0 ;; esac
        say f $n "$offset" "$size"
        tail -c "+$((offset + 1))" -- "$p" 2>/dev/null | head -c "$limit" | body
        [ -f "$p" ] || say m $n # taken away while it was read
    done
    still
}
"""

WRITE = """
main() {
    enter || return 0
    IFS= read -r count
    t=.cf-$nonce.tmp
    trap 'rm -rf "$here/$t"' EXIT
    trap 'exit 1' HUP INT TERM
    if ! why=$( (umask 077 && mkdir "$t" && : >"$t/names") 2>&1); then say e 0; say "$why" | body; return 0; fi
    n=0
    while [ "$n" -lt "$count" ] && IFS= read -r line; do n=$((n + 1)); printf '%s\\n' "$line"; done >"$t/names"
    # one program takes the contents apart: the shell would read them byte by byte
    why=$(cd "$t" && umask 077 && awk '
        function next_file() { if (n) close(out); n++; out = "base64 -d >" n; printf "" | out }
        BEGIN { next_file() }
        $0 == "" { next_file(); next }
        { print | out }' 2>&1)
    n=0
    while IFS= read -r mode && IFS= read -r size && IFS= read -r path; do
        n=$((n + 1))
        place || return 0
    done <"$t/names"
    say w "$n"
}
place() { # one file from the private folder to where it belongs; 1: it could not
    up "$path"
    walk "$folder" || { say u $n; return 1; }
    [ -f "$t/$n" ] && size_is=$(($(wc -c <"$t/$n"))) || size_is=none
    if [ "$size_is" != "$size" ]; then say e $n; say "$why (not written whole)" | body; return 1; fi
    if [ -d "./$path" ] && [ ! -L "./$path" ]; then say e $n; say 'Is a directory' | body; return 1; fi
    # a link to a folder would be moved into, not replaced
    why=$({ mkdir -p "./$folder" && chmod "$mode" "$t/$n" && { [ ! -L "./$path" ] || rm -f "./$path"; } &&
        mv -f "$t/$n" "./$path"; } 2>&1) || { say e $n; say "$why" | body; return 1; }
}
"""

LIST = """
main() {
    enter || return 0
    IFS= read -r depth && IFS= read -r path
    walk "$path" || { say u 1; return 0; }
    [ -d "./$path" ] || { still; return 0; }
    cd "./$path" 2>/dev/null || { say e 1; say 'Permission denied' | body; return 0; }
    say l 1
    set --
    [ "$depth" = all ] || set -- -maxdepth 1
    # names that hold a newline are nobody's; a gone file is no error
    {
        find . "$@" -name "*$nl*" -prune -o \\( -type f -o -type d \\) -exec stat -c '%F/%s/%Y/%n' {} + 2>/dev/null
        find . "$@" -name "*$nl*" -prune -o -type l -print 2>/dev/null | while IFS= read -r link; do
            p=$(readlink -f -- "$link" 2>/dev/null) || continue
            case $p in "$here"/*) ;; *) continue ;; esac
            [ -f "$p" ] && stat -L -c 'regular file/%s/%Y/%n' -- "$link" 2>/dev/null
        done
    } | body
    still
}
"""

DIGESTS = """
main() {
    enter || return 0
    sum=sha256sum
    command -v sha256sum >/dev/null || sum='shasum -a 256'
    n=0
    while IFS= read -r path; do
        n=$((n + 1))
        inside "$path" || { say u $n; continue; }
        [ -f "$p" ] || { say m $n; continue; }
        [ -r "$p" ] || { say e $n; say 'Permission denied' | body; continue; }
        size_of "$p" || { say m $n; continue; }
        # shellcheck disable=SC2086 # a command with its option
        digest=$($sum <"$p" 2>/dev/null)
        [ -f "$p" ] || { say m $n; continue; }
        say d $n "$size" "${digest%% *}"
    done
    still
}
"""

REMOVE = """
main() {
    enter || return 0
    n=0
    while IFS= read -r path; do
        n=$((n + 1))
        up "$path"
        walk "$folder" || { say u $n; continue; }
        if [ -d "./$path" ] && [ ! -L "./$path" ]; then say e $n; say 'Is a directory' | body; continue; fi
        [ -e "./$path" ] || [ -L "./$path" ] || continue
        why=$(rm -f "./$path" 2>&1) || { say e $n; say "$why" | body; }
    done
}
"""

PREPARE = """
main() {
    [ -z "$mask" ] || umask "$mask"
    why=$({ mkdir -p "$root" && mkdir -p "$root/spool"; } 2>&1) || { say e 0; say "$why" | body; return 0; }
    cd -- "$root" 2>/dev/null || { say x root; return 0; }
    IFS= read -r fresh
    if [ ! -e .crossfade-site ]; then
        # whole from its first moment, and made once though several try
        draft=.crossfade-site.$nonce
        why=$({ printf '%s\\n' "$fresh" >"$draft" && ln "$draft" .crossfade-site; } 2>&1)
        rm -f "$draft"
    fi
    { IFS= read -r mark <.crossfade-site; } 2>/dev/null || { say e 0; say "$why" | body; return 0; }
    say i "$mark"
}
"""
