"""What happens to a build. The map, in reading order.

What things are
    requests            what a build can be asked to be (fields: the kinds of its fields)
    builds              a build's record, its states, results and reasons
    errors              every error, drawn as a tree
    settings/           every setting (jenkins, templates, oidc: those of the controller and its builds; section,
                        names: how they are built; sources, problems, reference: where they come from, what is wrong
                        with them, their page in the docs)
    engine              the verbs that the core asks of whatever runs containers

What is decided, without doing anything
    policy              request + settings -> the container's spec, or a refusal
    references          image references, and the patterns that allow them (patterns: of any names with parts)
    grants, bases       who may push which images, and use Docker; which images a Dockerfile may use, in BuildKit's own
                        terms
    users               who `user` is inside an image
    labels              Jenkins' label expressions, and the label that names an image
    waiting             what a queue item waits for, as far as Jenkins tells
    outcomes            what was seen -> how the build ended

One build's way
    admission           what is refused before it is queued (callers: who a build is, when it asks from inside)
    service             what the API asks for; the loops' lifetime (assembly: how it is put together)
    scheduler           which queued build starts when
    runner              the life of one build's container; the only place that orders the engine's verbs for builds
    work                what a run is, and what its container is for: a command (command_work), or an agent (agents/)
    images/             image builds and pushes, which have no container of their own
    docker_access/      what of Docker the build can use, at /var/run/docker.sock
    build_sockets       the API inside of each build's container, under its own identity
    preparation         workspace, source and image before it (pull)
    container_output    its output into the log, whatever happens to the connection
    reaper              what is there against what the store says; nothing of a finished build stays
    stop, changes, phases   asking a build to end; telling those who wait; how long each part took

Where things are kept
    data_volume         the one volume, and where the service sees it
    build_store/        the durable queue (table, database, migrations), and the tokens of exchanges
    build_log/          one log as it is written (index: who wrote what; masking: no secrets; logs: all of them, and
                        their readers)
    files/              trees of files, handled without following a link
        sources             uploads (archive, archive_plan, tar: unpacking them safely)
        git_source          fetching instead
        workspace           the folder that a build works in
        artifacts           what it leaves for others (artifact_search, globs: finding it)
        tree                walking and removing any tree
        private_file        keys, for the service alone
    toolkit/            what every container gets of ours, and what agents run on (busybox: where that comes from)
    tokens              who may call (token_text: what a token looks like, and what is kept of it)
    oidc                builds of a controller, by their id tokens (jwks, key_sources: its issuer's keys; job_url: of a
                        job's URL its name); build_store's exchanges are the tokens that they get

The engine
    docker_engine/      the verbs over Docker's socket (wire, frames: bodies and streams, pure; calls, stream: short
                        calls, long connections)
    gate/               a Docker socket for one build, that is safe to hand out (`sibling gate`)
    engine_watch        whether it answers
    registries          the service's logins there, and what is asked in their place

The rest
    doctor              what is wrong with this machine, and the cure
    metrics, host       what Prometheus is told; memory and disk now
    threads             the synchronous parts beside the event loop
    unix_socket         listening at a path, however deep down it is
"""
