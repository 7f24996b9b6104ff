"""HTTP in, HTTP out, and the command line. It decides nothing: `agent` does. The map, in reading order.

__main__        the `sibling` program
commands        `serve`, `doctor`, `token`; wires everything
app             the web application: its routes, its layers, its OpenAPI
layers          around every route: request log, faults, headers, the body's limit
problems        errors as RFC 9457 has them
auth            who calls, and whether they may
build_sockets   the same application on the socket of one build
dependencies    what routes are given
views           what is answered, as JSON
builds          submit, list, show, wait, cancel
images          image builds and pushes; the images that builds made
logs            read, follow, server-sent events
waiting         answers that take long
sources         uploads
artifacts       downloads
tokens          id tokens of builds in exchange for tokens
health          healthz, readyz, status, metrics
cli_download    the client as one file (client_zipapp: how that is made)
client          the client's commands, standard library only
service_log     the service's own log
"""
