"""What is wrong with the settings, in sentences: where, what is there, what is allowed. Serves `load_settings`."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Any

from agent.settings.names import ANY, Name, depth, find, names
from agent.settings.reference import allowed
from agent.settings.section import CONFLICT
from agent.settings.sources import Source, Variables, get, holds, takes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails
    from pydantic_settings import BaseSettings


def problems(settings: type[BaseSettings], sources: Sequence[Source], error: ValidationError) -> list[str]:
    """A sentence for each error that pydantic found in what the sources gave."""
    return [_sentence(settings, sources, details) for details in error.errors()]


def strays(settings: type[BaseSettings], variables: Variables) -> list[str]:
    """A sentence for each variable that is meant as a setting but would be overlooked.

    Others that begin with SIBLING_ are left alone: some are the client's, and Kubernetes makes some for its services.
    """
    plain = [name for name in names(settings) if len(name) == depth(settings, name[0]) == 2]
    mistaken = {f"SIBLING_{'_'.join(name)}".upper(): name for name in plain}
    sentences = []
    for variable in sorted(name.upper() for name, value in os.environ.items() if value):
        section, delimiter, rest = variable.removeprefix("SIBLING_").lower().partition("__")
        if variable in mistaken:
            sentences.append(f"{variable}: write {variables.spell(mistaken[variable])}, with two underscores.")
        elif variable.startswith("SIBLING_") and delimiter and section not in settings.model_fields:
            sentences.append(f"{variable}: {_unknown(settings, variables, (section, rest))}")
    return sentences


def misplaced(settings: type[BaseSettings], sources: Sequence[Source]) -> list[str]:
    """A sentence for each variable and secret file that is meant for a section of tables."""
    return [
        f"{source.at(name)}: {section} are given in the settings file alone."
        for source in sources
        for section, values in source.values.items()
        if not takes(settings, source, section)
        for name in sorted(_leaves(values, (section,)))
    ]


def _leaves(values: Any, name: Name) -> Iterator[Name]:
    if not isinstance(values, dict):
        yield name
        return
    for key, value in values.items():
        yield from _leaves(value, (*name, key))


def _sentence(settings: type[BaseSettings], sources: Sequence[Source], details: ErrorDetails) -> str:
    if details["type"] == CONFLICT:
        context = details["ctx"]
        source, name = _blame(settings, sources, [tuple(dotted.split(".")) for dotted in context["settings"]])
        return f"{source.at(name)}: {context['sentence']}"
    path = tuple(str(part) for part in details["loc"])
    # Pydantic's path goes on into lists, and says so at its end if a table's key is wrong rather than what it holds.
    source, name = _blame(settings, sources, [path[:length] for length in range(len(path), 0, -1)])
    place, dotted = source.at(name), ".".join(name)
    if details["type"] == "extra_forbidden":
        return f"{place}: {_unknown(settings, source, name)}"
    if path[-1] == "[key]":
        return f"{place}: {dotted} has a name that is not allowed; write {allowed(find(settings, name[:-1]))}."
    whole = depth(settings, name[0])
    if details["type"] == "missing":
        return f"{place}: {'.'.join(path)} is missing; write {allowed(find(settings, path))}."
    if len(name) < whole:
        example = source.spell(next(other for other in names(settings) if other[0] == name[0] and len(other) == whole))
        return f"{place}: {dotted} is a section; give its settings one by one, such as {example}."
    # As it was written, not as a parser left it; of a list only the part that is wrong.
    value = details["input"] if len(path) > whole else get(source.values, name)
    subject = "this value" if source.is_secret else f"{dotted} = {value!r}"
    return f"{place}: {subject} is not allowed; write {allowed(find(settings, name))}."


def _blame(settings: type[BaseSettings], sources: Sequence[Source], candidates: Sequence[Name]) -> tuple[Source, Name]:
    """The first of these names that was given at all, and the source that gave it; what wins is the last of them."""
    return next(
        (source, name)
        for name in candidates
        for source in reversed(sources)
        if takes(settings, source, name[0]) and holds(source.values, name)
    )


def _unknown(settings: type[BaseSettings], source: Source, name: Name) -> str:
    table = name[1] if len(name) > 2 else ANY
    known = [other for other in names(settings, table) if takes(settings, source, other[0])]
    dotted = {".".join(other): other for other in known}
    near = difflib.get_close_matches(".".join(name), dotted, n=1)
    near += [candidate for candidate in dotted if candidate.endswith(f".{name[-1]}")]
    if near:
        hint = f"did you mean {source.spell(dotted[near[0]])}?"
    else:
        hint = f"docs/settings.md has all; the sections are {', '.join(settings.model_fields)}."
    return f"there is no setting {'.'.join(name)}; {hint}"
