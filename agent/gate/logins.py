"""Logins for registries, rebuilt: clients send one with each request that needs it (Docker API, "Authentication")."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from agent import references
from agent.errors import InvalidRequest
from agent.gate import strict_json
from agent.gate.answers import pass_on
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_KNOWN = {"username", "password", "email", "serveraddress", "identitytoken", "registrytoken"}
_HUB = "https://index.docker.io/v1/"  # as Docker's clients name docker.io here
_ONE, _MANY = "X-Registry-Auth", "X-Registry-Config"


async def checked(gate: Gate, exchange: Exchange) -> None:
    """POST /auth: whether a registry that images may come from or go to takes a login."""
    login = await gate.understood(exchange, lambda data: _checked("the body", strict_json.parse(data)))
    domain = references.registry(_host(login.get("serveraddress", "")))
    if not gate.policy.may_log_in(domain):
        raise Refused("auth", f"{domain}: no image there may be pulled or pushed")
    login["serveraddress"] = _HUB if domain == "docker.io" else domain
    await pass_on(exchange, await gate.upstream.ask("POST", "/auth", body=login))


def _host(address: str) -> str:
    """The registry of an address as clients write it, such as https://index.docker.io/v1/."""
    host = address.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return {"": "docker.io", "index.docker.io": "docker.io", "registry-1.docker.io": "docker.io"}.get(host, host)


def one(exchange: Exchange, *, needed: bool = False) -> dict[str, str]:
    """The header with the caller's login for the registry of a pull or push. Raises InvalidRequest."""
    login = _decoded(exchange, _ONE)
    if login is None:
        return _encoded(_ONE, {}) if needed else {}
    return _encoded(_ONE, _checked(_ONE, login))


def by_registry(exchange: Exchange) -> dict[str, str]:
    """The header with the caller's logins for the registries that a build may pull from. Raises InvalidRequest."""
    logins = _decoded(exchange, _MANY)
    if logins is None:
        return {}
    if not isinstance(logins, dict):
        raise InvalidRequest(f"{_MANY} is no table of logins")
    return _encoded(_MANY, {registry: _checked(_MANY, each) for registry, each in logins.items()})


def _decoded(exchange: Exchange, header: str) -> Any:
    text = exchange.request.headers.get(header.lower(), "")
    if not text:
        return None
    try:
        return strict_json.parse(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) or b"{}")
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{header} is not base64 of JSON") from error


def _checked(header: str, login: Any) -> dict[str, str]:
    known = isinstance(login, dict) and not set(login) - _KNOWN
    if not known or not all(isinstance(each, str) for each in login.values()):
        raise InvalidRequest(f"{header} is no login")
    return dict(login)


def _encoded(header: str, content: dict[str, Any]) -> dict[str, str]:
    return {header: base64.urlsafe_b64encode(json.dumps(content).encode()).decode()}
