"""The pages at the top: the controller itself, who calls, crumbs, labels, quieting down, the agent's program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .answers import jetty, text
from .calls import page, redirect
from .exported import Bean
from .labels import label_of

if TYPE_CHECKING:
    from starlette.responses import Response

    from .calls import Call


@page("/api/json")
def root(call: Call) -> Response:
    return call.export(call.shapes.root())


@page("/")
def dashboard(call: Call) -> Response:
    return call.core.answers.page(200, "Dashboard - Jenkins")


@page("/login", public=True)
def login(call: Call) -> Response:
    return call.core.answers.page(200, "Sign in - Jenkins")


@page("/whoAmI/api/json", public=True)
def who_am_i(call: Call) -> Response:
    anonymous = call.caller.user is None
    group = "anonymous" if anonymous else "authenticated"
    bean = Bean("hudson.security.WhoAmI")
    return call.export(
        bean.put(anonymous=anonymous, authenticated=True, authorities=[group], name=call.caller.name),
    )


@page("/me/api/json")
def me(call: Call) -> Response:
    name = call.caller.name
    token = Bean("jenkins.security.ApiTokenProperty")
    bean = Bean("hudson.model.User").put(absoluteUrl=f"{call.core.url}user/{name}", fullName=name)
    return call.export(bean.put(id=name, description=None, property=[token]))


@page("/crumbIssuer/api/json")
def crumb_issuer(call: Call) -> Response:
    """A crumb is good together with the session that it was issued for."""
    core = call.core
    session = core.session_of(call.headers)
    bean = Bean("hudson.security.csrf.DefaultCrumbIssuer")
    bean.put(crumb=core.access.crumb(call.caller, session), crumbRequestField="Jenkins-Crumb")
    answer = call.export(bean)
    core.give_session(answer, call.headers, session)
    return answer


@page("/label/([^/]+)/api/json")
def label(call: Call, name: str) -> Response:
    return call.export(call.shapes.label(label_of(name)))


@page("/quietDown")
def quiet_down(call: Call) -> Response:
    call.must_post()
    call.need("Overall/Administer")
    call.core.state.quiet = call.argument("message") or ""
    call.core.state.changed()
    return redirect("/")


@page("/cancelQuietDown")
def cancel_quiet_down(call: Call) -> Response:
    call.must_post()
    call.need("Overall/Administer")
    call.core.state.quiet = None
    call.core.state.changed()
    return redirect("/")


@page("/jnlpJars/(agent|remoting|slave)[.]jar", public=True)
def agent_jar(call: Call, name: str) -> Response:
    return text(
        call.core.agent_jar(),
        "application/java-archive",
        Accept_Ranges="bytes",
        Content_Disposition=f"attachment; filename={name}.jar",
    )


@page("/wsagents", public=True)
def not_by_http(call: Call) -> Response:
    return jetty(400, "This endpoint is only for use from agent.jar in WebSocket mode")
