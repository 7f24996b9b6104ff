"""A job's config.xml: the label, the shell steps, the parameters. All else is kept as it came, and means nothing."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from .node_xml import BadXml, read_xml
from .things import Step

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET

    from .state import State
    from .things import Job, Kind

_KINDS: dict[str, Kind] = {
    "project": "freestyle",
    "flow-definition": "pipeline",
    "com.cloudbees.hudson.plugins.folder.Folder": "folder",
}
_TEXT = r"""('''.*?'''|\"\"\".*?\"\"\"|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""
_NODE = re.compile(rf"\bnode\s*\(\s*(?:label:\s*)?{_TEXT}", re.DOTALL)
_STEP = re.compile(rf"\bsh\s*\(?\s*{_TEXT}|\bwriteFile\s*\(?\s*file:\s*{_TEXT}\s*,\s*text:\s*{_TEXT}", re.DOTALL)


def read_job(state: State, name: str, text: str, *, into: Job | None = None) -> Job:
    """Make a job of its config.xml, or change one."""
    root = read_xml(text)
    kind = _KINDS.get(root.tag)
    if kind is None or (into and into.kind != kind):
        raise BadXml(root.tag)
    job = into or state.add_job(name, kind)
    job.config = re.sub(r"^<\?xml[^>]*\?>", '<?xml version="1.1" encoding="UTF-8"?>', text)
    job.description = root.findtext("description") or None
    job.parameters = {
        definition.findtext("name", ""): definition.findtext("defaultValue") or ""
        for definition in root.iter("hudson.model.StringParameterDefinition")
    }
    if kind == "freestyle":
        _freestyle(job, root)
    elif kind == "pipeline":
        _pipeline(job, root.findtext("definition/script") or "")
    return job


def _freestyle(job: Job, root: ET.Element) -> None:
    roams = root.findtext("canRoam") == "true"
    job.label_text = None if roams else root.findtext("assignedNode")
    job.disabled = root.findtext("disabled") == "true"
    job.concurrent = root.findtext("concurrentBuild") == "true"
    job.steps = [Step(shell.findtext("command") or "") for shell in root.iter("hudson.tasks.Shell")]


def _pipeline(job: Job, script: str) -> None:
    """Just as much of a Jenkinsfile as `node('label') { sh '...'; writeFile file: '..', text: '..' }`."""
    found = _NODE.search(script)
    job.label_text = ast.literal_eval(found[1]) if found else None
    job.steps = [
        Step(ast.literal_eval(shell)) if shell else Step(ast.literal_eval(content), ast.literal_eval(file))
        for shell, file, content in _STEP.findall(script)
    ]
