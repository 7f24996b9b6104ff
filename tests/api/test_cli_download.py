"""The client as a download."""

import subprocess
import sys
from functools import partial

import pytest
from anyio import to_thread

pytestmark = pytest.mark.anyio


async def test_the_client_runs_as_downloaded_with_nothing_installed(held, tmp_path):
    async with held.client_as() as client:
        answer = await client.get("/cli", follow_redirects=True)
    assert answer.status_code == 200
    assert 'filename="sibling"' in answer.headers["content-disposition"]
    program = tmp_path / "sibling"
    program.write_bytes(answer.content)
    command = [sys.executable, "-I", "-S", str(program), "--help"]
    shown = await to_thread.run_sync(partial(subprocess.run, command, capture_output=True, text=True, check=True))
    assert "run a build" in shown.stdout
