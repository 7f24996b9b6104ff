"""The pages of jobs and their builds."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from .answers import Refused, bare, jetty, quoted, text
from .calls import JOB, page, redirect
from .job_xml import read_job
from .node_xml import BadXml

if TYPE_CHECKING:
    from starlette.responses import Response

    from .calls import Call
    from .things import Job


@page(JOB + "/api/json")
def job(call: Call, path: str) -> Response:
    return call.export(call.shapes.job(call.job(path)))


@page("/createItem")
def create_at_top(call: Call) -> Response:
    return _create(call, "")


@page(JOB + "/createItem")
def create_in_folder(call: Call, path: str) -> Response:
    return _create(call, call.job(path).name + "/")


def _create(call: Call, folder: str) -> Response:
    call.must_post()
    call.need("Job/Create")
    errors = call.core.answers
    name = call.query.get("name")
    if not name:
        return errors.error(400, "Query parameter 'name' is required")
    unsafe = re.search(r"[?*/\\%!@#$^&|<>\[\]:;]", name)
    if unsafe:
        return errors.error(400, f"{quoted(unsafe[0])} is an unsafe character")
    if folder + name in call.core.state.jobs:
        return errors.error(400, f"A job already exists with the name {quoted(name)}")
    if "content-type" not in call.headers:
        return errors.error(400, "No Content-Type header set")
    try:
        read_job(call.core.state, folder + name, call.body.decode())
    except BadXml as error:
        return errors.broken(str(error))
    call.core.state.changed()
    return bare(200)


@page(JOB + "/config.xml")
def config(call: Call, path: str) -> Response:
    found = call.job(path)
    call.need("Job/Configure")
    if call.method != "POST":
        return text(found.config, "application/xml")
    try:
        read_job(call.core.state, found.name, call.body.decode(), into=found)
    except BadXml as error:
        return call.core.answers.broken(str(error))
    return bare(200)


@page(JOB + "/doDelete")
def delete(call: Call, path: str) -> Response:
    found = call.job(path)
    call.must_post()
    call.need("Job/Delete")
    call.core.delete_job(found)
    parent = path.rpartition("/job/")[0]
    return redirect(f"{parent}/")


@page(JOB + "/description")
def describe(call: Call, path: str) -> Response:
    found = call.job(path)
    call.must_post()
    call.need("Job/Configure")
    found.description = call.argument("description")
    return bare(204)


@page(JOB + "/(disable|enable)")
def switch(call: Call, path: str, how: str) -> Response:
    found = call.job(path)
    call.must_post()
    call.need("Job/Configure")
    found.disabled = how == "disable"
    return redirect(f"{path}/")


@page(JOB + "/build")
def build(call: Call, path: str) -> Response:
    found = _buildable(call, path)
    form = call.argument("json")
    if found.parameters and form is None:
        return jetty(400, "Nothing is submitted")
    if not found.parameters:
        item, _ = call.core.queue.schedule(found, user=call.caller.name, delay=_delay(call))
        return bare(201, f"{call.core.url}queue/item/{item.id}/")
    given = json.loads(form or "{}").get("parameter") or []
    values = {entry["name"]: entry["value"] for entry in (given if isinstance(given, list) else [given])}
    known = {name: value for name, value in values.items() if name in found.parameters}
    call.core.queue.schedule(found, user=call.caller.name, parameters=known, delay=_delay(call))
    return bare(201, call.core.url + found.path)


@page(JOB + "/buildWithParameters")
def build_with_parameters(call: Call, path: str) -> Response:
    """What is not given has its default; what is not defined is dropped; what waits already is pointed to."""
    found = _buildable(call, path)
    if not found.parameters:
        return jetty(400, f"{found.short_name} is not parameterized")
    values = {name: call.argument(name) for name in found.parameters}
    filled = {name: found.parameters[name] if value is None else value for name, value in values.items()}
    item, new = call.core.queue.schedule(found, user=call.caller.name, parameters=filled, delay=_delay(call))
    return bare(201 if new else 303, f"{call.core.url}queue/item/{item.id}/")


def _buildable(call: Call, path: str) -> Job:
    found = call.job(path)
    call.must_post(form_page=True)
    call.need("Job/Build")
    if found.kind == "folder":
        raise Refused(call.core.answers.not_found())
    if found.disabled:
        raise Refused(jetty(409, f"{found.short_name} is not buildable"))
    return found


def _delay(call: Call) -> float:
    return float((call.argument("delay") or "0").removesuffix("sec"))


@page(JOB + r"/(\d+|lastBuild)/api/json")
def one_build(call: Call, path: str, number: str) -> Response:
    return call.export(call.shapes.build(call.build(path, number)))


@page(JOB + r"/(\d+|lastBuild)/stop")
def stop(call: Call, path: str, number: str) -> Response:
    found = call.build(path, number)
    call.must_post()
    call.need("Job/Cancel")
    call.core.runs.stop(found, call.caller.name)
    return redirect(f"{path}/{number}/")


@page(JOB + r"/(\d+|lastBuild)/(?:submitDescription|description)")
def describe_build(call: Call, path: str, number: str) -> Response:
    found = call.build(path, number)
    call.must_post()
    call.need("Run/Update")
    found.description = call.argument("description")
    return redirect(f"{path}/{number}/")


@page(JOB + r"/(\d+|lastBuild)/consoleText")
def console(call: Call, path: str, number: str) -> Response:
    return text(call.build(path, number).console)


@page(JOB + r"/(\d+|lastBuild)/logText/progressiveText")
def progressive(call: Call, path: str, number: str) -> Response:
    """Offsets count the log as it is kept, with notes and bare newlines; a start beyond its end means its beginning."""
    found = call.build(path, number)
    log = bytes(found.log)
    start = int(call.argument("start") or 0)
    more = {"X_More_Data": "true"} if found.building else {}
    data = log[start if start <= len(log) else 0 :].replace(b"\n", b"\r\n")
    return text(data, X_Text_Size=str(len(log)), **more)


@page(JOB + r"/(\d+|lastBuild)")
def build_page(call: Call, path: str, number: str) -> Response:
    return call.core.answers.page(200, f"{call.build(path, number).name} - Jenkins")


@page(JOB)
def job_page(call: Call, path: str) -> Response:
    return call.core.answers.page(200, f"{unquote(call.job(path).short_name)} - Jenkins")
