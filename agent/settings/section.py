"""What the sections of the settings have in common. Serves `agent.settings`, `jenkins` and `templates`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from agent.builds import SizeText

MIB = 1024**2
GIB = 1024**3
# java(1): the value of -Xmx must be greater than 2 MB.
Heap = Annotated[int, Field(gt=2 * MIB, le=2**53), SizeText]

# The type of the pydantic error that says that settings contradict each other: its context has the `sentence`, and
# `settings`, the names of those to blame.
CONFLICT = "conflict"


def conflict(sentence: str, *settings: str) -> PydanticCustomError:
    """Settings that are right one by one, but not together; `settings` are their names, such as `builds.cpus`."""
    return PydanticCustomError(CONFLICT, "{sentence}", {"sentence": sentence, "settings": settings})


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any) -> Any:
        # Pydantic takes true for 1.
        if isinstance(value, bool):
            raise ValueError("is true or false")  # noqa: TRY004 - pydantic turns ValueError into a refusal
        return value
