"""Where in a command a value may stand."""

import pytest

from broker.spec.shell import unsafe_places

X = "${{x}}"


def place(command: str) -> str:
    """What the last X stands in; empty: it is safe there."""
    starts = [i for i in range(len(command)) if command.startswith(X, i)]
    return unsafe_places(command, starts).get(starts[-1], "")


@pytest.mark.parametrize(
    "command",
    [
        f"echo {X}",
        f"echo a{X}b --c={X}",
        f'echo "a" {X}',
        f"echo 'it' {X}",
        f"a=$(cat {X})",
        f'b="$(nproc)"; echo {X}',
        f'b="$(echo "x y")"; echo {X}',
        f"x=${{HOME}} {X}",
        f'x="${{HOME:-none}}" {X}',
        f"(cd y && ls) && echo {X}",
        f"cat <<EOF\nhere\nEOF\necho {X}",
        f"cat <<-'E O'\n\there\n\tE O\necho {X}",
        f"n=$((1 + 2)); echo {X}",
        f"echo a#b {X}",
        f"# a comment, don't mind\necho {X}",
        f"echo \\\\ {X}",
        f"case a in a) echo {X};; esac",
        f"echo \\\n  {X}",
    ],
)
def test_a_plain_word_may_be_a_value(command):
    assert place(command) == ""


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (f'echo "{X}"', "double quotes"),
        (f"echo '{X}'", "single quotes"),
        (f"echo `cat {X}`", "backticks"),
        (f"cat <<EOF\n{X}\nEOF", "here-document"),
        (f"cat <<EOF\n\tEOF\n{X}\nEOF", "here-document"),
        (f"n=$((1 + {X}))", "arithmetic"),
        (f"echo \\{X}", "backslash"),
        (f"echo ${X}", "after a $"),
        (f'x="$(echo "{X}")"', "double quotes"),
        (f"echo $'\\' {X} '", "cannot be followed"),
        (f"x=${{y:-'}} {X}", "cannot be followed"),
        (f'x="`echo`" {X}', "cannot be followed"),
        (f"n=$(( ((1)) + {X} ))", "cannot be followed"),
        (f"((x = {X}))", "cannot be followed"),
        (f"cat <<{X}\na\n", "cannot be followed"),
        (f'x="$(case a in a) echo "{X}";; esac)"', "cannot be followed"),
        (f"echo a\\\n#'b\n{X} '", "cannot be followed"),
        (f"cat <<'EOF\n{X}", "cannot be followed"),
        (f"echo # {X}", "comment"),
    ],
)
def test_where_quotes_would_lose_their_meaning_no_value_may_stand(command, told):
    assert told in place(command)
