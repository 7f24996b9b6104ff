"""The gate: a Docker socket for one build that is safe to hand out. It answers requests, and relays none.

Whoever holds it can run, see and remove containers, networks and volumes of this build alone, with nothing of the host
in them, and use images that policy names. Reading order:

    policy        what a policy says; `Refused`
    exchange      HTTP as it is spoken with the build: parsed strictly, answered by us
    upstream      our own requests to the engine
    routes        the one table of all that is answered; whatever is not in it is refused
    strict_json   JSON that two parsers cannot read differently
    bodies        the typed bodies of requests
    create, mounts, ports, health_checks, resources, objects, changes: what the engine is sent instead. Pure
    journal       what was made through the gate, on the disk
    names         what the engine calls the build's things
    own           names and ids -> this build's things, or the same 404 as for what is not there
    queries       what of a query goes on;  shown: what the build is shown of an answer
    archives      of images, for save and load;  packed: tars that come;  exports: the engine's of a container
    creation, listing, containers, execs, snapshots, images, pulls, pushes, image_removal, builds, networks, volumes,
    system        the answers
    user_files    what is looked at before each start;  rootfs: in the container;  links: in the workspace, for mounts
    asked         what a container was asked to be, for its inspect. Pure
    restarts      what the engine would do by itself, were it asked to
    builder       where images are built;  own_builder: without the service
    gate          the socket and its connections;  removal: of all that was made;  disk: what it takes
    standalone    `sibling gate`
"""
