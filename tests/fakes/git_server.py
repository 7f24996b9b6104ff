"""Real git repositories behind HTTP on loopback, as a git host serves them, and what such a host may do wrong."""

import base64
import subprocess
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

AUTHOR = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


class Repository:
    """A bare repository; commits are made of bytes, so that they may hold what git itself would refuse to add."""

    def __init__(self, path):
        self.path = path
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", path], check=True, env=self._environment())

    def git(self, *arguments, data=b""):
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, input=data, check=True, capture_output=True, env=self._environment()
        )
        return done.stdout.decode().strip()

    def blob(self, data):
        return self.git("hash-object", "-w", "--stdin", data=data)

    def tree(self, *entries):
        """`(mode, name, object id)` as they are, in that order."""
        body = b"".join(b"%s %s\0" % (mode.encode(), name.encode()) + bytes.fromhex(oid) for mode, name, oid in entries)
        return self.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=body)

    def commit(self, tree, branch="main"):
        """A commit on top of a branch; its id."""
        parent = self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
        commit = self.git("commit-tree", "-m", "message", *(["-p", parent] if parent else []), tree)
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def commit_files(self, branch="main", **files):
        """A commit of plain files, `name=content`, that replaces what was there."""
        entries = [("100644", name, self.blob(content.encode())) for name, content in sorted(files.items())]
        return self.commit(self.tree(*entries), branch)

    def _environment(self):
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            **AUTHOR,
        }


class GitServer(ThreadingHTTPServer):
    """Serves every repository in a folder. What it does wrong is set by its attributes, before it is asked."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.login = None  # (user, password) that it asks for
        self.hands_out_ids = True  # False: as a server of the first protocol, only what a branch or tag names
        self.redirects_to = None
        self.hangs = False
        self.refusal = None  # a text that it answers everything with
        self.settings = {}  # its own git configuration
        self.asked = threading.Event()
        self.left = threading.Event()  # a client that waited has gone
        self.logins = []  # the Authorization headers that it was sent
        self.on_request = lambda: None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def git_server(folder):
    server = GitServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.logins.append(self.headers["Authorization"])
        server.on_request()
        server.asked.set()
        if server.hangs:
            while self.connection.recv(65536):
                pass
            server.left.set()
        elif server.redirects_to:
            self._answer(302, {"Location": server.redirects_to + self.path})
        elif server.login and self.headers["Authorization"] != _basic(*server.login):
            self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, server.refusal)
        elif server.refusal:
            self._answer(403, {}, server.refusal)
        else:
            self._run_backend()

    do_POST = do_GET  # noqa: N815 - http.server's name

    def log_message(self, *_):
        pass

    def _answer(self, status, headers, text=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if text is not None:
            self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write((text or "").encode())

    def _run_backend(self):
        path, _, query = self.path.partition("?")
        config = list(self.server.settings.items())
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": str(len(config)),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": self.headers.get("Content-Length", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        for number, (key, value) in enumerate(config):
            environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        if self.server.hands_out_ids:
            environment["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        output = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, check=False, capture_output=True
        ).stdout
        head, _, content = output.partition(b"\r\n\r\n")
        headers = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def processes_in(folder=None):
    """The command lines of all processes, or of those whose working directory is that folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # they end at any moment
            if folder is None or (process / "cwd").readlink() == folder:
                found.append((process / "cmdline").read_bytes())
    return found
