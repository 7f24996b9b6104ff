"""The options of `sibling image build` that describe the image, and the request made of them (ImageBuildRequest)."""

from __future__ import annotations

import os
from pathlib import Path

from api.client import provenance
from api.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from api.client.image_context import Context
    from api.client.terminal import Screen

# By this id Docker's own command takes the token for a git URL too (docs.docker.com/build/concepts/context).
_GIT_TOKEN = "GIT_AUTH_TOKEN"  # noqa: S105 - a name
_GIT_USER = "x-access-token"


PROGRESS = ("auto", "plain", "tty", "json")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Everything that ends up in the request."""
    parser.add_argument("path", metavar="PATH|URL|-", help="folder, git URL[#REF[:FOLDER]], or - for no files")
    add = parser.add_argument
    add("-t", "--tag", action="append", metavar="NAME[:TAG]", help="name of the image; may be repeated")
    add("-f", "--file", metavar="FILE", help="the Dockerfile, or - for standard input (default: PATH/Dockerfile)")
    add("--build-arg", action="append", default=[], metavar="NAME[=VALUE]", help="ARG; without a value, your own one")
    add("--target", metavar="STAGE", help="stage to build")
    add(
        "--secret",
        action="append",
        default=[],
        metavar="id=ID[,src=FILE|,env=VAR]",
        help="for RUN --mount=type=secret,id=ID; from a file, or from your variable VAR, or ID",
    )
    add("--label", action="append", default=[], metavar="NAME=VALUE", help="label of the image")
    add("--no-source-labels", action="store_true", help="no labels of repository, commit and Jenkins build of ours")
    add("--platform", action="append", default=[], metavar="OS/ARCH", help="comma-separated, or repeated")
    add("--no-cache", action="store_true", help="run every step anew")
    add("--pull", action="store_true", help="ask the registry for newer base images")
    add("--cache-from", action="append", metavar="REF", help="image with cached steps; also type=registry,ref=REF")
    add("--cache-to", action="append", metavar="SPEC", help="type=inline, or type=registry,ref=REF[,mode=min|max]")
    add("--network", choices=("default", "none"), help="what RUN steps are connected to")
    add("--push", action="store_true", help="push every --tag")
    add("--timeout", metavar="T", help="stop the build after this time: seconds, or 90s, 10m, 1h30m")
    add("--cpus", type=float, metavar="N")
    add("--memory", metavar="SIZE", help="memory limit: bytes, or 512m, 2g")


def request_of(options: argparse.Namespace, context: Context) -> dict[str, Any]:
    """The request but for the context's own fields. Raises ClientError."""
    request = {
        "tags": options.tag,
        "push": options.push,
        "build_args": _build_args(options.build_arg),
        "secrets": dict(map(_secret, options.secret)),
        "image_labels": _labels(options, context),
        "platforms": [platform for value in options.platform for platform in value.split(",") if platform],
    }
    plain = ("target", "no_cache", "pull", "cache_from", "cache_to", "network", "timeout", "cpus", "memory")
    request.update((name, getattr(options, name)) for name in plain)
    if options.push and not options.tag:
        raise ClientError("--push needs a name to push to; give it with --tag.")
    return {name: value for name, value in request.items() if value not in (None, False, [], {})}


def mode_of(option: str, screen: Screen) -> str:
    """`plain`, `tty` or `json`. `tty` needs a terminal that can go back, and a CI system keeps all that it saw."""
    if option == "json" or not screen.live:
        return "json" if option == "json" else "plain"
    return "plain" if option == "plain" or (option == "auto" and os.environ.get("CI")) else "tty"


def signed_in(request: dict[str, Any]) -> dict[str, Any]:
    """The request whose git context has the token that the secrets hold for it, if they do."""
    source, token = request.get("context", {}), request.get("secrets", {}).get(_GIT_TOKEN)
    if token is None or source.get("type") != "git" or not source["url"].startswith("http"):
        return request
    return {**request, "context": {**source, "username": _GIT_USER, "password": token}}


def _build_args(texts: list[str]) -> dict[str, str]:
    """Without a value it is the variable's, and a variable that is not set leaves the Dockerfile its default."""
    pairs = [text.partition("=") for text in texts]
    given = ((name, value if equals else os.environ.get(name)) for name, equals, value in pairs)
    return {name: value for name, value in given if value is not None}


def _labels(options: argparse.Namespace, context: Context) -> dict[str, str]:
    own = dict(text.partition("=")[::2] for text in options.label)
    if options.no_source_labels:
        return own
    return {**context.provenance(), **provenance.labels_of_build(pushed=options.push), **own}


def _secret(text: str) -> tuple[str, str]:
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    name = fields.pop("id", "")
    kind = fields.pop("type", None)
    file = fields.pop("src", None) or fields.pop("source", None)
    variable = fields.pop("env", None)
    if not name or fields or kind not in (None, "file", "env") or (file and variable):
        # Not the text itself: who mistakes the option may have written the value there.
        raise ClientError("A --secret is not understood; write id=ID,src=FILE, or id=ID,env=VARIABLE, or id=ID.")
    where = file or f"the variable {variable or name}"
    try:
        # The very bytes of a file, as Docker's own command takes them.
        value = Path(file).read_bytes() if file else os.fsencode(os.environ[variable or name])
        return name, value.decode()
    except KeyError:
        raise ClientError(f"The secret {name} is to come from {where}, which is not set here.") from None
    except OSError as error:
        raise ClientError(f"The secret {name} cannot be read from {where}: {error.strerror}.") from error
    except UnicodeDecodeError:
        advice = "encode it, for instance with base64, and decode it where it is used"
        raise ClientError(f"The secret {name} from {where} is not UTF-8 text; {advice}.") from None
