"""What the sections of the settings have in common. Serves `agent.settings` and its parts."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from agent.fields import SizeText, parse_duration
from agent.settings.reference import written


def _split(value: Any) -> Any:
    """A list from text with commas, since a variable holds only text."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _subnet(text: str) -> str:
    return str(ipaddress.ip_network(text))  # pydantic turns its ValueError into a refusal


MIB = 1024**2
GIB = 1024**3
# java(1): the value of -Xmx must be greater than 2 MB.
Heap = Annotated[int, Field(gt=2 * MIB, le=2**53), SizeText]
Age = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=3650 * 24 * 3600, allow_inf_nan=False)]
TableName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
TABLE_NAMES = "up to 63 lower-case letters, digits or `-`, the first a letter or digit"
# See `agent.patterns`. None has a digest: it would be of one image, and say nothing of what that is.
ImagePattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/*\[\]-]+$", max_length=512)]
ImagePatterns = Annotated[list[ImagePattern], BeforeValidator(_split)]
Subnet = Annotated[str, AfterValidator(_subnet)]
Subnets = Annotated[list[Subnet], BeforeValidator(_split)]

# The type of the pydantic error that says that settings contradict each other: its context has the `sentence`, and
# `settings`, the names of those to blame.
CONFLICT = "conflict"


def conflict(sentence: str, *settings: str) -> PydanticCustomError:
    """Settings that are right one by one, but not together; `settings` are their names, such as `builds.cpus`."""
    return PydanticCustomError(CONFLICT, "{sentence}", {"sentence": sentence, "settings": settings})


def not_below_default(section: str, kind: type[BaseModel], most: float, info: ValidationInfo) -> float:
    """What the setting `max_...` of a section must be; raises `conflict` if it is below the one without `max_`."""
    name = str(info.field_name)
    default = info.data.get(name.removeprefix("max_"))
    if default is not None and most < default:
        field, other = kind.model_fields[name], f"{section}.{name.removeprefix('max_')}"
        raise conflict(
            f"{section}.{name}, {written(most, field)}, is below what a build gets that asks for none, "
            f"{other}, {written(default, field)}; raise the first or lower the second.",
            f"{section}.{name}",
            other,
        )
    return most


def is_loopback(host: str) -> bool:
    """Whether only this machine can call `host`. A name other than localhost could mean anything; it does not count."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        # Pydantic takes true for 1.
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("is true or false")  # what pydantic turns into a refusal
        return value
