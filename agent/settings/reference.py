"""What may be written for a setting, in words: for the sentence that refuses one, and for docs/settings.md."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from agent.fields import parse_duration, parse_size
from agent.settings.names import ANY, depth, find, model, names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import BaseModel

_NOUNS = {int: "a whole number", float: "a number", str: "text", bool: "`true` or `false`", Path: "a path"}
_PARSED = {parse_size: ("a size", "`512m`"), parse_duration: ("a duration", "`90s` or `1h30m`")}
_UNITS: dict[Callable[..., Any] | None, dict[str, int]] = {
    parse_size: {"t": 1024**4, "g": 1024**3, "m": 1024**2, "k": 1024},
    parse_duration: {"d": 86400, "h": 3600, "m": 60, "s": 1},
}

_INTRODUCTION = """\
# Settings

This page is made by `scripts/settings-docs` from `agent/settings/`.

A setting comes from four places; a later one wins:

1. its default;
2. one TOML file: the one given to `sibling serve --config`, else `$SIBLING_CONFIG`, else `sibling.toml` in the working
   folder, else `/etc/sibling/sibling.toml`;
3. secret files: with `SIBLING_SECRETS_DIR=/run/secrets`, the text of `/run/secrets/auth__token_file` is
   `auth.token_file`;
4. the variable named in the tables. An empty variable counts as not set.

Registries, grants, hooks, templates and issuers of id tokens are given in the file alone.

A wrong or unknown setting is refused at the start, with the file's line or the variable's name and what is allowed.
`sibling doctor` says whether this machine has what the settings need. Relative paths are below the working folder.

A **size** is in bytes, or a number with `k`, `m`, `g` or `t` (powers of 1024), such as `"512m"`. A **duration** is in
seconds, or a number with `s`, `m`, `h` or `d`, such as `"90s"` or `"1h30m"`.

An example, `/etc/sibling/sibling.toml`:

```toml
[server]
host = "0.0.0.0"

[auth]
token_file = "/etc/sibling/tokens"

[queue]
slots = 8

[builds]
allowed_images = ["docker.io/library/*", "registry.example.com/**"]
memory = "4g"
max_memory = "16g"
timeout = "30m"

[jenkins]
url = "https://jenkins.example.com/"
user = "sibling"
token_file = "/etc/sibling/jenkins-token"

[templates.linux]
image = "docker.io/library/debian:13"
caches = { apt = "/var/cache/apt/archives" }

[templates.linux-large]
inherits = "linux"
labels = ["linux-large", "large"]
memory = "8g"
cap = 2

[log]
format = "json"
```
"""


def allowed(field: FieldInfo) -> str:
    """What may be written, such as `a whole number from 1 to 100`."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "allowed" in extra:
        return str(extra["allowed"])
    kind, _ = _type(field)
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if (parser := _parser(field)) is not None:
        noun, example = _PARSED[parser]
        return f"{noun}{_bounds(field)}, such as {example}"
    return f"{_NOUNS[kind]}{_bounds(field)}"


def written(value: object, field: FieldInfo) -> str:
    """The value as one would write it in the TOML file, such as `"2g"`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and value and (units := _UNITS.get(_parser(field))):
        value = next((f"{value // size}{unit}" for unit, size in units.items() if not value % size), value)
    return json.dumps(value, default=str)


def page(settings: type[BaseModel]) -> str:
    """docs/settings.md, whole."""
    return "\n".join([_INTRODUCTION, *(_section(settings, section) for section in settings.model_fields)])


def _type(field: FieldInfo) -> tuple[Any, list[Any]]:
    """The field's type without None, and what is said of it, such as its bounds."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    if type(None) not in get_args(field.annotation):
        return field.annotation, field.metadata
    given = FieldInfo.from_annotation(kinds[0])
    return given.annotation, [*field.metadata, *given.metadata]


def _parser(field: FieldInfo) -> Callable[..., Any] | None:
    return next((item.func for item in _type(field)[1] if isinstance(item, BeforeValidator)), None)


def _bounds(field: FieldInfo) -> str:
    low, above, high = _bound(field, Ge, "ge"), _bound(field, Gt, "gt"), _bound(field, Le, "le")
    if low and high:
        return f" from {low} to {high}"
    lowest = f" of at least {low}" if low else f" above {above}" if above else ""
    return f"{lowest} up to {high}" if high else lowest


def _bound(field: FieldInfo, kind: type, name: str) -> str:
    """The field's first bound of that kind; nothing if it has none."""
    values = (getattr(item, name) for item in _type(field)[1] if isinstance(item, kind))
    return next((written(value, field).strip('"') for value in values), "")


def _section(settings: type[BaseModel], section: str) -> str:
    meaning = inspect.getdoc(model(settings.model_fields[section])) or ""
    return "\n".join([f"## {section}", "", meaning, "", *_rows(settings, section), ""])


def _rows(settings: type[BaseModel], section: str) -> Iterator[str]:
    yield "| name | variable | default | allowed | meaning |"
    yield "|---|---|---|---|---|"
    for name in names(settings):
        if name[0] == section and len(name) == depth(settings, section):
            field = find(settings, name)
            cells = (
                f"`{'.'.join(name)}`",
                "-" if ANY in name else f"`SIBLING_{'__'.join(name).upper()}`",
                _default(field),
                allowed(field),
                field.description or "",
            )
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "by the host"
    if field.is_required():
        return "must be given"
    return "none" if field.default is None else f"`{written(field.default, field)}`"
