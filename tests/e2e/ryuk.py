"""In place of Testcontainers' Ryuk, which no registry here has; by its protocol, on the same socket.

Ryuk listens on 8080 and says so. A client sends filters, a line each, and is answered ACK. When the last one has hung
up, and none comes back in time, all that has their labels is removed (moby-ryuk's README).
"""

import os
import socketserver
import threading
from urllib.parse import parse_qsl

import docker

filters: set[str] = set()
gone = threading.Event()


class Client(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            filters.update(value for key, value in parse_qsl(line.decode().strip()) if key == "label")
            self.wfile.write(b"ACK\n")
        gone.set()


server = socketserver.ThreadingTCPServer(("", 8080), Client)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("[testcontainers-ryuk] Started!", flush=True)
gone.wait()
print(f"pruning {sorted(filters)}", flush=True)
engine = docker.from_env()
for container in engine.containers.list(all=True, filters={"label": sorted(filters)}):
    if container.id.startswith(os.uname().nodename):
        continue
    container.remove(force=True, v=True)
engine.networks.prune({"label": sorted(filters)})
engine.volumes.prune({"label": sorted(filters), "all": True})
