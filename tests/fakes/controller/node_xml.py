"""A node as config.xml and as the form of doCreateItem."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any
from xml.sax.saxutils import escape

from .things import Node

_KNOWN_RETENTION = {
    "hudson.slaves.RetentionStrategy$Always",
    "hudson.slaves.RetentionStrategy$Demand",
    "hudson.slaves.SimpleScheduledRetentionStrategy",
}
_CLOUD_RETENTION = "hudson.slaves.CloudRetentionStrategy"


class BadXml(Exception):
    """What makes Jenkins answer 500."""


def read_xml(text: str) -> ET.Element:
    """Python's parser knows only XML 1.0, Jenkins writes 1.1."""
    try:
        return ET.fromstring(re.sub(r"""(<\?xml[^>]*version=["'])1\.1""", r"\g<1>1.0", text))
    except ET.ParseError as error:
        raise BadXml(str(error)) from None


def as_xml(node: Node) -> str:
    retention = f"\n  {node.retention}" if node.retention else ""
    return f"""<?xml version="1.1" encoding="UTF-8"?>
<slave>
  <name>{escape(node.name)}</name>
  <description>{escape(node.description or "")}</description>
  <remoteFS>{escape(node.remote_fs)}</remoteFS>
  <numExecutors>{node.executors}</numExecutors>
  <mode>{"EXCLUSIVE" if node.exclusive else "NORMAL"}</mode>{retention}
  <launcher class="hudson.slaves.JNLPLauncher">
    <workDirSettings>
      <disabled>false</disabled>
      <internalDir>remoting</internalDir>
      <failIfWorkDirIsMissing>false</failIfWorkDirIsMissing>
    </workDirSettings>
    <webSocket>{str(node.web_socket).lower()}</webSocket>
  </launcher>
  <label>{escape(node.label_text)}</label>
  <nodeProperties/>
</slave>"""


def configure(node: Node, text: str) -> None:
    """Change a node as its new config.xml says, its name included."""
    root = read_xml(text)
    if root.tag != "slave":
        raise BadXml(root.tag)
    node.name = root.findtext("name") or node.name
    node.description = root.findtext("description") or ""
    node.remote_fs = root.findtext("remoteFS") or ""
    node.executors = int(root.findtext("numExecutors") or 1)
    node.exclusive = root.findtext("mode") == "EXCLUSIVE"
    node.label_text = root.findtext("label") or ""
    node.web_socket = root.findtext("launcher/webSocket") == "true"
    _set_retention(node, root.find("retentionStrategy"))


def _set_retention(node: Node, element: ET.Element | None) -> None:
    """An unknown class is dropped without a word; a cloud's makes a ghost of the node."""
    kind = "" if element is None else element.get("class", "")
    node.ghost = kind == _CLOUD_RETENTION
    node.retention = ""
    if element is not None and kind in _KNOWN_RETENTION:
        ET.indent(element, level=1)
        element.tail = None
        node.retention = ET.tostring(element, encoding="unicode").replace(" />", "/>")


def from_form(name: str, form: dict[str, Any]) -> Node:
    launcher = form.get("launcher") or {}
    return Node(
        name,
        description=form.get("nodeDescription"),
        remote_fs=form.get("remoteFS") or "",
        executors=int(form.get("numExecutors") or 1),
        exclusive=form.get("mode") == "EXCLUSIVE",
        label_text=form.get("labelString") or "",
        web_socket=str(launcher.get("webSocket", False)).lower() == "true",
    )
