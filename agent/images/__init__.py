"""Images: built by BuildKit on the engine's warm cache, pushed with logins that no build ever sees. In reading order.

    runner      one image build or push, from a claimed build to its published result
    context     the files that a Dockerfile may use, in a folder that nobody else can change
    builder     what a builder must do (buildx: the one there is, over the engine's own BuildKit)
    progress    what BuildKit tells of its work -> lines of a log, and the steps and bases of the record; pure
    cells       the control groups that RUN steps are limited in
    pusher      tags -> a registry, and the engine's own tags as they were before if that fails
    hooks       what an admin wants done to an image after its push, such as signing it
    keeper      how long the engine keeps what builds made
    names       the names that a caller gave to images, which are nobody else's

The host's own tags are never moved by a build: its image is kept under a name of its own below `sibling.local`, and the
tags that it asked for are names in the record. Only a push, which a grant allowed, gives the engine the tag as well.
"""
