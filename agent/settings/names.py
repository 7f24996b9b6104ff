"""What settings there are: `server.port`, and `templates.NAME.image` in a section of tables. Serves its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

Name = tuple[str, ...]  # section and setting, or section, table and setting; or the beginning of these

ANY = "NAME"  # stands for whatever a table is called


def is_tables(section: FieldInfo) -> bool:
    """Whether the section is of tables, each with a name and the same settings. Only the settings file has them."""
    return get_origin(section.annotation) is Mapping


def model(section: FieldInfo) -> type[BaseModel]:
    """What the section, or each of its tables, is made of."""
    kind: Any = get_args(section.annotation)[1] if is_tables(section) else section.annotation
    found: type[BaseModel] = kind
    return found


def names(settings: type[BaseModel], table: str = ANY) -> Iterator[Name]:
    """The names of all sections, each before those of its settings; tables are called `table`."""
    for section, field in settings.model_fields.items():
        yield (section,)
        prefix = (section, table) if is_tables(field) else (section,)
        yield from ((*prefix, setting) for setting in model(field).model_fields)


def depth(settings: type[BaseModel], section: str) -> int:
    """How many parts the names of the section's settings have."""
    field = settings.model_fields.get(section)
    return 3 if field is not None and is_tables(field) else 2


def find(settings: type[BaseModel], name: Name) -> FieldInfo:
    """The setting of that name, or that holds the part of this name; the section, if the name is of one alone."""
    section = settings.model_fields[name[0]]
    return section if len(name) == 1 else model(section).model_fields[name[depth(settings, name[0]) - 1]]
