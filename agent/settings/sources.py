"""The places that settings come from: the TOML file, secret files, variables. Serves `settings.load_settings`."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic_settings import EnvSettingsSource, NestedSecretsSettingsSource, SecretsSettingsSource, SettingsError

from agent.errors import InvalidSettings
from agent.settings.names import is_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_settings import BaseSettings

    from agent.settings.names import Name

_USUAL_FILES = (Path("sibling.toml"), Path("/etc/sibling/sibling.toml"))


class Source(Protocol):
    """One place that gives settings."""

    is_secret: bool
    has_tables: bool  # whether it may give sections of tables, such as `templates`

    @property
    def values(self) -> Mapping[str, Any]:
        """What it gives, by section and setting."""

    def at(self, name: Name) -> str:
        """Where in this place the setting is given."""

    def spell(self, name: Name) -> str:
        """How the setting must be called in this place."""


class SettingsFile:
    """The TOML file."""

    is_secret = False
    has_tables = True

    def __init__(self, path: Path) -> None:
        """Read it. Raises FileNotFoundError, and InvalidSettings if it cannot be read as TOML."""
        self._path = path
        try:
            self._text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise InvalidSettings(f"{path}:{line}: this is not UTF-8; save the file as UTF-8.") from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise InvalidSettings(f"{path}: the settings file cannot be read: {error.strerror}.") from error
        try:
            self.values: Mapping[str, Any] = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidSettings(self._syntax(str(error))) from error

    def at(self, name: Name) -> str:
        """Such as `sibling.toml:3`."""
        return f"{self._path}:{self._line(name)}"

    def spell(self, name: Name) -> str:
        """Such as `server.port`."""
        return ".".join(name)

    def _syntax(self, message: str) -> str:
        # tomllib ends its sentences with "(at line 3, column 5)" or "(at end of document)".
        what, _, place = message.rpartition(" (at ")
        found = re.search(r"line (\d+)", place)
        line = int(found[1]) if found else max(1, len(self._text.splitlines()))
        return f"{self._path}:{line}: this is not TOML: {what}."

    def _line(self, name: Name) -> int:
        """The line at which the statement begins that first gives this name.

        tomllib tells no positions, so ever longer beginnings of the file are read: only whole statements are TOML.
        """
        lines = self._text.splitlines(keepends=True)
        begin = 0
        for end in range(1, len(lines) + 1):
            try:
                values = tomllib.loads("".join(lines[:end]))
            except tomllib.TOMLDecodeError:
                continue
            if holds(values, name):
                break
            begin = end
        return begin + 1


class SecretFiles:
    """A folder with a file per setting, such as Docker's /run/secrets."""

    is_secret = True
    has_tables = False

    def __init__(self, settings: type[BaseSettings], folder: Path) -> None:
        """Read it. Raises InvalidSettings if the folder or a file in it cannot be read."""
        self._folder = folder
        try:
            next(folder.iterdir(), None)  # for its error: pydantic-settings takes an unreadable folder for an empty one
            source = NestedSecretsSettingsSource(SecretsSettingsSource(settings, folder), secrets_prefix="")
            self.values: Mapping[str, Any] = source()
        except (OSError, UnicodeDecodeError, SettingsError) as error:
            raise InvalidSettings(f"SIBLING_SECRETS_DIR={folder}: the secret files cannot be read: {error}.") from error

    def at(self, name: Name) -> str:
        """Such as `/run/secrets/server__port`."""
        return str(self._folder / self.spell(name))

    def spell(self, name: Name) -> str:
        """Such as `server__port`."""
        return "__".join(name)


class Variables:
    """The environment's `SIBLING_SECTION__NAME` variables."""

    is_secret = False
    has_tables = False

    def __init__(self, settings: type[BaseSettings]) -> None:
        self.values: Mapping[str, Any] = EnvSettingsSource(settings)()

    def at(self, name: Name) -> str:
        """Such as `SIBLING_SERVER__PORT`."""
        return self.spell(name)

    def spell(self, name: Name) -> str:
        """Such as `SIBLING_SERVER__PORT`."""
        return f"SIBLING_{'__'.join(name)}".upper()


def find_sources(settings: type[BaseSettings], path: Path | None) -> list[Source]:
    """All sources but the defaults; a later one wins. Raises InvalidSettings if one cannot be read."""
    sources: list[Source] = [*_settings_file(path)]
    if folder := os.environ.get("SIBLING_SECRETS_DIR"):
        sources.append(SecretFiles(settings, Path(folder)))
    return [*sources, Variables(settings)]


def takes(settings: type[BaseSettings], source: Source, section: str) -> bool:
    """Whether the section may come from that source."""
    field = settings.model_fields.get(section)
    return source.has_tables or field is None or not is_tables(field)


def merge(settings: type[BaseSettings], sources: Sequence[Source]) -> dict[str, Any]:
    """The sections of all sources in one."""
    merged: dict[str, Any] = {}
    for source in sources:
        for section, values in source.values.items():
            if takes(settings, source, section):
                below = merged.get(section)
                together = isinstance(below, dict) and isinstance(values, dict)
                merged[section] = below | values if together else values
    return merged


def holds(values: Any, name: Name) -> bool:
    """Whether a source with these values gives that setting."""
    for part in name:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def get(values: Any, name: Name) -> Any:
    """What a source with these values gives for that setting, which it holds."""
    for part in name:
        values = values[part]
    return values


def _settings_file(path: Path | None) -> list[SettingsFile]:
    variable = os.environ.get("SIBLING_CONFIG")
    given = path or (Path(variable) if variable else None)
    for candidate in (given,) if given else _USUAL_FILES:
        try:
            return [SettingsFile(candidate)]
        except FileNotFoundError as error:
            if given:
                raise InvalidSettings(f"{given}: there is no such settings file; write it or name another.") from error
    return []
