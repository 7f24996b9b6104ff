"""What of Docker a build can use: the socket at /var/run/docker.sock in its container, by its level.

access    the sockets of all builds: opened with a build's start, hung up at its end, what was made removed
rights    who may have which level; asked when the build first connects, since an agent's job is known only then
scoped    a gate (`agent.gate`) for one build of the service
relay     a whole daemon's socket, byte for byte: the host's own, or the build's own
daemons   a daemon for one build, in a container beside it (daemon_body: what that is made of; daemon_start)
mirror    a pull-through cache for those
"""
