"""A build of a controller, with nothing but its id token, against a real service that is killed in between."""

import os
import subprocess
import sys

import httpx2
import pytest

from tests.e2e.harness import BUSYBOX
from tests.fakes.issuer import AUDIENCE, IssuerServer, SigningKey

pytestmark = pytest.mark.engine


def test_the_token_outlives_a_kill_of_the_service_and_neither_token_is_in_its_files(service_with, tmp_path):
    with IssuerServer(SigningKey()) as issuer:
        config = f'[oidc.jenkins]\nissuer = "{issuer.issuer}"\naudience = "{AUDIENCE}"\n'
        service = service_with(config=config)
        id_token = issuer.token()
        answer = httpx2.post(f"{service.url}/v1/tokens", json={"id_token": id_token}, trust_env=False)
        token = answer.raise_for_status().json()["token"]

        def run(**variables):
            environment = {name: value for name, value in os.environ.items() if not name.startswith("SIBLING_")}
            return subprocess.run(
                [sys.executable, "-m", "api", "run", "--image", BUSYBOX, "--", "echo", "hello"],
                env={**environment, "SIBLING_URL": service.url, "SIBLING_CACHE_DIR": str(tmp_path / "c"), **variables},
                capture_output=True,
                check=False,
            )

        assert run(SIBLING_TOKEN=token).stdout == b"hello\n"
        service.kill()
        service.start()
        ran = run(SIBLING_TOKEN=token)
        assert (ran.stdout, ran.returncode) == (b"hello\n", 0), ran.stderr
        refused = run(SIBLING_ID_TOKEN=id_token)
        assert refused.returncode == 125
        assert b"was exchanged before" in refused.stderr
        another = issuer.token(build_number=8)
        assert run(SIBLING_ID_TOKEN=another).stdout == b"hello\n"
        builds = service.client.get("/v1/builds").json()["builds"]
        assert {build["created_by"] for build in builds} == {"job:team/app"}
        secrets = [token.split("_", 2)[2], *(each.split(".")[2] for each in (id_token, another))]
        service.stop()  # it removes the builds' workspaces until then
        files = [service.log, *(path for path in service.data.rglob("*") if path.is_file())]
        assert not [path for path in files for secret in secrets if secret.encode() in path.read_bytes()]
