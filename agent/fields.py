"""The kinds of field that requests and settings are made of: sizes, durations, names, secrets. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema

# What of Docker a build can use, from nothing to everything; see docs/docker-access.md.
DockerLevel = Literal["none", "scoped", "isolated", "host"]
DOCKER_LEVELS: Final[tuple[DockerLevel, ...]] = ("none", "scoped", "isolated", "host")

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIZE = re.compile(r"(\d{1,18}(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)


def parse_size(value: Any) -> Any:
    """Bytes from an int or from text such as `512m`, `2g`, `1.5GiB`; units are powers of 1024, as Docker's are."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a size; write bytes, or a number with k, m, g or t, such as 512m")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))


def parse_duration(value: Any) -> Any:
    """Seconds from a number or from text such as `90s`, `10m`, `1h30m`."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{value!r} is not a duration; write seconds, or 90s, 10m, 1h30m")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not hold a NUL byte")
    return value


def _env_name(value: str) -> str:
    if not _ENV_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a variable name; use letters, digits and _, not starting with a digit")
    return value


def _secret_value(value: SecretStr) -> SecretStr:
    text = _no_nul(value.get_secret_value())
    if not text:
        raise ValueError("a secret must not be empty")
    return value


SizeText = BeforeValidator(parse_size, json_schema_input_type=int | str)
ByteSize = Annotated[int, Field(gt=0, le=2**53), SizeText]
Duration = Annotated[
    float,
    Field(gt=0, le=30 * 24 * 3600, allow_inf_nan=False),
    BeforeValidator(parse_duration, json_schema_input_type=float | str),
]
Text = Annotated[str, AfterValidator(_no_nul)]
EnvName = Annotated[str, Field(max_length=256), AfterValidator(_env_name)]
# Pydantic would call it write-only; but answers show it, masked.
Secret = Annotated[SecretStr, AfterValidator(_secret_value), WithJsonSchema({"type": "string", "format": "password"})]
Label = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_no_nul)]


class Frozen(BaseModel):
    """Data that never changes, and that has no field but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)
