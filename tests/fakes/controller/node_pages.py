"""The pages of nodes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from . import node_xml
from .answers import Refused, bare, jetty, quoted, text
from .calls import page, redirect
from .things import Cause

if TYPE_CHECKING:
    from starlette.responses import Response

    from .calls import Call
    from .things import Node

_UNSAFE = re.compile(r"[?*/\\%!@#$^&|<>\[\]:;]")
_USER_CAUSE = "hudson.slaves.OfflineCause$UserCause"


@page("/computer/api/json")
def computers(call: Call) -> Response:
    return call.export(call.shapes.computers())


@page("/computer")
def list_page(call: Call) -> Response:
    return call.core.answers.page(200, "Nodes - Manage Jenkins - Jenkins")


@page("/computer/doCreateItem")
def create(call: Call) -> Response:
    call.must_post()
    call.need("Agent/Create")
    name = _new_name(call)
    form = call.argument("json")
    if form is None:
        return jetty(400, "This page expects a form submission")
    if call.argument("type") not in ("hudson.slaves.DumbSlave", "hudson.slaves.DumbSlave$DescriptorImpl"):
        return call.core.answers.broken("No such node type")
    try:
        call.core.add_node(node_xml.from_form(name, json.loads(form)))
    except ValueError as error:
        return call.core.answers.broken(str(error))
    return redirect("/computer/")


def _new_name(call: Call) -> str:
    errors = call.core.answers
    name = call.argument("name")
    if not name:
        raise Refused(errors.error(400, "Query parameter 'name' is required"))
    unsafe = _UNSAFE.search(name)
    if unsafe:
        raise Refused(errors.error(400, f"{quoted(unsafe[0])} is an unsafe character"))
    if name in call.core.state.nodes:
        raise Refused(errors.error(400, f"Agent called {quoted(name)} already exists"))
    return name


@page("/computer/checkName")
def check_name(call: Call) -> Response:
    name = call.argument("value") or ""
    taken = name in call.core.state.nodes
    said = f'<div class="error">Agent called {quoted(escape(name))} already exists</div>' if taken else "<div/>"
    return text(said, "text/html;charset=utf-8")


@page("/computer/([^/]+)/api/json")
def computer(call: Call, name: str) -> Response:
    return call.export(call.shapes.computer(call.node(name)))


@page("/computer/([^/]+)/config.xml")
def config(call: Call, name: str) -> Response:
    node = call.node(name)
    call.need("Agent/Configure")
    if call.method != "POST":
        return text(node_xml.as_xml(node), "application/xml")
    try:
        call.core.reconfigure_node(node, call.body.decode())
    except node_xml.BadXml as error:
        return call.core.answers.broken(str(error))
    return bare(200)


@page("/computer/([^/]+)/submitDescription")
def submit_description(call: Call, name: str) -> Response:
    node = call.node(name)
    call.must_post()
    call.need("Agent/Configure")
    node.description = call.argument("description") or ""
    call.core.state.changed()
    return redirect(f"/computer/{name}/")


@page("/computer/([^/]+)/doDelete")
def delete(call: Call, name: str) -> Response:
    node = call.node(name)
    call.must_post()
    if node.built_in:
        return bare(400)
    call.need("Agent/Delete")
    if not node.removed:
        call.core.runs.node_removed(node)
    return redirect("/computer/")


@page("/computer/([^/]+)/changeOfflineCause")
def change_offline_cause(call: Call, name: str) -> Response:
    node = call.node(name)
    call.must_post()
    call.need("Agent/Disconnect")
    _mark(call, node)
    return redirect(f"/computer/{name}/")


@page("/computer/([^/]+)/toggleOffline")
def toggle_offline(call: Call, name: str) -> Response:
    node = call.node(name)
    call.must_post()
    if node.mark is None:
        call.need("Agent/Disconnect")
        _mark(call, node)
    else:
        call.need("Agent/Connect")
        node.mark = None
        call.core.state.changed()
    return redirect(f"/computer/{name}/")


def _mark(call: Call, node: Node) -> None:
    """What runs there goes on, and its agent stays."""
    now = call.core.state.clock.now()
    node.mark = Cause(call.argument("offlineMessage") or "", now, _USER_CAUSE, marked_by=call.caller.name)
    call.core.state.changed()


@page("/computer/([^/]+)/doDisconnect")
def disconnect(call: Call, name: str) -> Response:
    """Does not hold: the agent soon connects again."""
    node = call.node(name)
    call.must_post()
    call.need("Agent/Disconnect")
    if node.agent:
        agent = node.agent
        call.core.runs.agent_lost(node, agent, call.argument("offlineMessage") or "")
        agent.close()
    return redirect(f"/computer/{name}/")


@page("/computer/([^/]+)/logText/progressiveText")
def log(call: Call, name: str) -> Response:
    node = call.node(name)
    data = bytes(node.log)[int(call.argument("start") or 0) :].replace(b"\n", b"\r\n")
    return text(data, X_Text_Size=str(len(node.log)), X_More_Data="true")


@page("/computer/([^/]+)/(?:jenkins|slave)-agent[.]jnlp")
def jnlp(call: Call, name: str) -> Response:
    """Its first argument is the secret that the agent proves itself with."""
    node = call.node(name)
    if node.built_in or node.removed:
        return call.core.answers.not_found()
    call.need("Agent/Connect")
    arguments = [call.core.secret_of(node.name), node.name]
    arguments += ["-webSocket"] if node.web_socket else []
    arguments += ["-workDir", node.remote_fs, "-internalDir", "remoting", "-url", call.core.url]
    listed = "".join(f"<argument>{escape(argument)}</argument>" for argument in arguments)
    said = f"<jnlp><application-desc>{listed}</application-desc></jnlp>"
    return text(said, "application/x-java-jnlp-file")


@page("/computer/([^/]+)")
def node_page(call: Call, name: str) -> Response:
    return call.core.answers.page(200, f"{call.node(name).name} - Jenkins")
