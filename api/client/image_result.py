"""What a finished image build or push tells people on standard error, and programs on standard output."""

from __future__ import annotations

from api.client import terminal
from api.client.listing import json_of
from api.client.outcome import summary
from api.client.terminal import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from api.client.terminal import Screen


def tell(build: Mapping[str, Any], screen: Screen, *, quiet: bool) -> None:
    """Say how it ended; `quiet` says only what went wrong."""
    if quiet and build["result"] == "SUCCESS":
        return
    for line in _facts(build["image_build"]) if build["image_build"] else ():
        screen.say(line)
    screen.say(summary(build))


def answer(build: Mapping[str, Any], *, quiet: bool, as_json: bool) -> None:
    """Print what was asked for; raises OutputClosed."""
    if as_json:
        terminal.output(json_of(build))
    elif quiet and build["result"] == "SUCCESS":
        terminal.output("".join(f"{digest}\n" for digest in _digests(build["image_build"])).encode())


def _facts(image: Mapping[str, Any]) -> Iterator[str]:
    if image["id"]:
        names = f": {', '.join(image['tags'])}" if image["tags"] else ""
        weight = "" if image["size"] is None else f" ({size(image['size'])})"
        yield f"Image {image['id']}{weight}{names}"
    for pushed in image["pushed"]:
        yield f"Pushed {pushed['reference']}@{pushed['digest']}"
    if steps := image["steps"]:
        yield f"{sum(step['cached'] for step in steps)} of {len(steps)} steps came from the cache."


def _digests(image: Mapping[str, Any]) -> list[str]:
    """Each once, in the order of the names; the image's own id if nothing was pushed."""
    pushed = list(dict.fromkeys(each["digest"] for each in image["pushed"]))
    return pushed or list(filter(None, [image["digest"] or image["id"]]))
