"""What is wrong with the settings, in sentences: where, what is there, what is allowed. Serves `load_settings`."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Any

from agent.settings.reference import allowed
from agent.settings.sources import Name, Source, Variables, holds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import ValidationError
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails
    from pydantic_settings import BaseSettings

# The type of the pydantic error that says that settings contradict each other: its context has the `sentence`, and
# `settings`, the names of those to blame.
CONFLICT = "conflict"


def problems(settings: type[BaseSettings], sources: Sequence[Source], error: ValidationError) -> list[str]:
    """A sentence for each error that pydantic found in what the sources gave."""
    return [_sentence(settings, sources, details) for details in error.errors()]


def strays(settings: type[BaseSettings], variables: Variables) -> list[str]:
    """A sentence for each variable that is meant as a setting but would be overlooked.

    Others that begin with SIBLING_ are left alone: some are the client's, and Kubernetes makes some for its services.
    """
    mistaken = {f"SIBLING_{'_'.join(name)}".upper(): name for name in _names(settings) if len(name) > 1}
    sentences = []
    for variable in sorted(name.upper() for name, value in os.environ.items() if value):
        section, delimiter, rest = variable.removeprefix("SIBLING_").lower().partition("__")
        if variable in mistaken:
            sentences.append(f"{variable}: write {variables.spell(mistaken[variable])}, with two underscores.")
        elif variable.startswith("SIBLING_") and delimiter and section not in settings.model_fields:
            sentences.append(f"{variable}: {_unknown(settings, variables, (section, rest))}")
    return sentences


def _sentence(settings: type[BaseSettings], sources: Sequence[Source], details: ErrorDetails) -> str:
    name = tuple(str(part) for part in details["loc"][:2])
    if details["type"] == CONFLICT:
        context = details["ctx"]
        names = [tuple(dotted.split(".")) for dotted in context["settings"]]
        return f"{_blame(sources, names)[1]}: {context['sentence']}"
    source, place = _blame(sources, [name])
    if details["type"] == "extra_forbidden":
        return f"{place}: {_unknown(settings, source, name)}"
    if len(name) == 1:
        first = next(candidate for candidate in _names(settings) if candidate[0] == name[0] and len(candidate) > 1)
        return f"{place}: {name[0]} is a section; give its settings one by one, such as {source.spell(first)}."
    # As it was written, not as a parser left it; of a list only the part that is wrong.
    value = details["input"] if len(details["loc"]) > len(name) else source.values[name[0]][name[1]]
    subject = "this value" if source.is_secret else f"{'.'.join(name)} = {value!r}"
    return f"{place}: {subject} is not allowed; write {allowed(_field(settings, name))}."


def _blame(sources: Sequence[Source], names: Sequence[Name]) -> tuple[Source, str]:
    """The source that gave the first of these names that was given at all, and where; what wins is the last of them."""
    return next(
        (source, source.at(name)) for name in names for source in reversed(sources) if holds(source.values, name)
    )


def _unknown(settings: type[BaseSettings], source: Source, name: Name) -> str:
    dotted = {".".join(candidate): candidate for candidate in _names(settings)}
    near = difflib.get_close_matches(".".join(name), dotted, n=1)
    near += [candidate for candidate in dotted if candidate.endswith(f".{name[-1]}")]
    if near:
        hint = f"did you mean {source.spell(dotted[near[0]])}?"
    else:
        hint = f"docs/settings.md has all; the sections are {', '.join(settings.model_fields)}."
    return f"there is no setting {'.'.join(name)}; {hint}"


def _names(settings: type[BaseSettings]) -> Iterator[Name]:
    for section, field in settings.model_fields.items():
        yield (section,)
        yield from ((section, name) for name in _fields(field))


def _fields(section: FieldInfo) -> dict[str, FieldInfo]:
    model: Any = section.annotation
    fields: dict[str, FieldInfo] = model.model_fields
    return fields


def _field(settings: type[BaseSettings], name: Name) -> FieldInfo:
    return _fields(settings.model_fields[name[0]])[name[1]]
