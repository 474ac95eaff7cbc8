"""What `${{ launch }}` becomes at a site: its launcher for these figures, then what runs the container.

A template is shell text of the operator's (or of the document's `launch`), in which `{ranks}` and the like stand for
numbers. An image and its options enter as quoted words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from shlex import quote

from broker.spec.errors import Wrong, nearest, quoted

FIGURES = {
    "nodes": "nodes",
    "ranks": "processes on all nodes together; without ranks asked for, one on each node",
    "ranks_per_node": "the most processes on one node",
    "cores_per_rank": "cores for each process",
    "cpus_per_rank": "the same as the scheduler counts them, which may be hardware threads",
    "gpus_per_rank": "gpus for each process",
    "gpus_per_node": "gpus on each node",
}
"""What may stand in braces in a launcher."""
IMAGE_WORDS = {
    "image": "the image without `docker://`",
    "image_url": "the image with `docker://`, unless it is a file or says how it is fetched",
    "options": "the stage's own options, a word each",
}
"""What may stand in braces in a container line."""

BIND_WORDS = {"path": "a folder that the stage reads where it lies"}
VARIABLE_WORDS = {"name": "one of the stage's own variables"}
"""What may stand in braces in `container_bind` and in `container_env`."""

_BRACES = re.compile(r"(?<![${])\{([a-z_]+)\}")
_DOCKER = "docker://"


def check_template(text: str, known: Iterable[str]) -> None:
    """Raises Wrong for a word in braces that stands for nothing: it would reach the shell as it is."""
    known = list(known)
    for found in _BRACES.finditer(text):
        if found[1] not in known:
            raise Wrong(f"{{{found[1]}}} stands for nothing here", nearest(found[1], known, what="known are"))


def launcher_line(template: str, figures: Mapping[str, int]) -> str:
    """The launcher for these figures, which are numbers and need no quotes."""
    return _BRACES.sub(lambda found: str(figures[found[1]]) if found[1] in figures else found[0], template).strip()


def repeated(template: str, word: str, values: Iterable[str]) -> list[str]:
    """The template once for each value, as words for a command line; none where there is no template."""
    return [template.replace(f"{{{word}}}", value) for value in values] if template else []


def container_line(template: str, *, image: str, options: Iterable[str]) -> str:
    """The container's own command for this image. No value leaves its word, whatever is in it."""
    plain = image.removeprefix(_DOCKER)
    is_file = plain.startswith(("/", "./", "../", "~"))
    url = image if "://" in image or is_file else f"{_DOCKER}{image}"
    words = {"image": quote(plain), "image_url": quote(url), "options": " ".join(quote(option) for option in options)}
    filled = _BRACES.sub(lambda found: words.get(found[1], found[0]), template)
    return re.sub(r"  +", " ", filled).strip() if not words["options"] else filled.strip()


_IMAGE = re.compile(r"(?:[a-z][a-z0-9+.-]{0,20}://)?[A-Za-z0-9./~_][A-Za-z0-9._/:@~+-]{0,500}")


def check_image(text: str) -> None:
    """Raises Wrong for what is no image's name: what begins with a dash would be read as an option."""
    if not _IMAGE.fullmatch(text):
        raise Wrong(f"{quoted(text)} cannot be the name of an image", "write it as in registry.example.org/name:tag")
