"""What happens to a build. The map, in reading order.

What things are
    builds              a build's request and record, its states, results and reasons
    errors              every error, drawn as a tree
    settings/           every setting (jenkins, templates: those of the controller and of agents; section, names: how
                        they are built; sources, problems, reference: where they come from, what is wrong with them,
                        their page in the docs)
    engine              the verbs that the core asks of whatever runs containers

What is decided, without doing anything
    policy              request + settings -> the container's spec, or a refusal
    references          image references, and the patterns that allow them
    users               who `user` is inside an image
    labels              Jenkins' label expressions, and the label that names an image
    waiting             what a queue item waits for, as far as Jenkins tells
    outcomes            what was seen -> how the build ended

One build's way
    service             what the API asks for; the loops' lifetime (assembly: how it is put together)
    scheduler           which queued build starts when
    runner              the life of one build's container; the only place that orders the engine's verbs for builds
    work                what the container is for: a command (command_work), or an agent (agents/)
    preparation         workspace, source and image before it
    container_output    its output into the log, whatever happens to the connection
    reaper              what is there against what the store says; nothing of a finished build stays
    stop, changes, phases   asking a build to end; telling those who wait; how long each part took

Where things are kept
    data_volume         the one volume, and where the service sees it
    build_store/        the durable queue (table, database, migrations)
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
    tokens              who may call

The engine
    docker_engine/      the verbs over Docker's socket (wire, frames: bodies and streams, pure; calls, stream: short
                        calls, long connections)
    engine_watch        whether it answers

The rest
    doctor              what is wrong with this machine, and the cure
    metrics, host       what Prometheus is told; memory and disk now
    threads             the synchronous parts beside the event loop
"""
