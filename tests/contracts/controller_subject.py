"""A controller under test, simulated or real, and the nodes and jobs that are made there."""

import asyncio
import secrets
import time
from xml.sax.saxutils import escape

import jenkins

from agent.jenkins_controller import JenkinsController

FREESTYLE = """<project><builders/><assignedNode>{}</assignedNode><canRoam>false</canRoam>
<quietPeriod>0</quietPeriod></project>"""
PIPELINE = """<flow-definition><definition class="org.jenkinsci.plugins.workflow.cps.CpsFlowDefinition">
<script>node('{}') {{ sh 'true' }}</script><sandbox>true</sandbox></definition>
<quietPeriod>0</quietPeriod></flow-definition>"""


class Subject:
    """A controller under test, and what was made there."""

    def __init__(self, url, user, token):
        self.url, self.user = url.rstrip("/") + "/", user
        self.prefix = f"sibling-test-{secrets.token_hex(4)}"
        self.controller = self.connect(token)
        self.admin = jenkins.Jenkins(url, user, token, timeout=30)
        self.jobs = []

    def connect(self, token):
        return JenkinsController(self.url, user=self.user, token=lambda: token, timeout=30)

    def name(self, rest=""):
        return f"{self.prefix}-{secrets.token_hex(4)}{rest}"

    async def node(self, *labels, name=None, description=""):
        name = name or self.name()
        await self.controller.create_node(name, description=description, labels=labels, remote_dir="/none")
        return name

    async def computer(self, name):
        found = [computer for computer in await self.controller.computers() if computer.name == name]
        return found[0] if found else None

    def job(self, config, label):
        name = self.name(" job")
        self.admin.create_job(name, config.format(escape(label)))
        self.jobs.append(name)
        return name

    async def waiting(self, label, config=FREESTYLE):
        """A build that waits for `label`, as its queue item."""
        job = self.job(config, label)
        self.admin.build_job(job)
        return await self.until(lambda: self.item(job))

    async def item(self, job):
        """What waits for a node: the job itself, or the part of a pipeline that a node block is."""
        names = {job, f"part of {job} #1"}
        mine = [item for item in await self.controller.queue() if item.name in names and item.buildable]
        return mine[-1] if mine else None

    async def until(self, look):
        end = time.monotonic() + 30
        while not (found := await look()):
            assert time.monotonic() < end, "it did not come to be within 30 seconds"
            await asyncio.sleep(0.05)
        return found

    async def clean(self):
        for job in self.jobs:
            for item in await self.controller.queue():
                if job in item.name:
                    await self.controller.cancel_item(item.id)
            self.admin.delete_job(job)
        for computer in await self.controller.computers():
            if computer.name.startswith(self.prefix):
                await self.controller.delete_node(computer.name)
        await self.controller.close()
