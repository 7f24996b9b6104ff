# Sibling's own image: the service, git and ssh for git sources, buildx for images, and the busybox, the Java and the Python
# that toolkits are made from.
#
#   BASE           any Debian from 12 on that has python3 3.11 or newer and ca-certificates
#   secret ca      certificates to trust instead of the base's, where a proxy on the way has its own; may be left out
#   secret pip     a pip.conf, where packages come from another index than pip's own; may be left out
ARG BASE=python:3.13-slim-trixie


FROM ${BASE} AS build

ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

# Debian keeps a part of venv in a package of its own.
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    apt-get -qq update \
    && apt-get -qq install --yes --no-install-recommends binutils libcap2-bin \
        $(python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv) >/dev/null \
    && python3 -m venv /pip \
    && python3 -m venv --without-pip /opt/sibling-service/venv

# A copy of the interpreter with the three capabilities that managing the workspaces of any user takes: the service is not
# root. The container must be allowed them too; under an init, `no-new-privileges` would keep them from it.
RUN cp --remove-destination "$(readlink -f "$(command -v python3)")" /opt/sibling-service/venv/bin/python3 \
    && setcap cap_chown,cap_dac_override,cap_fowner=ep /opt/sibling-service/venv/bin/python3

# The dependencies; and, for this stage alone, what makes the wheel: those lines of the developers' lock.
WORKDIR /source
COPY requirements.lock requirements-dev.lock ./
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    awk '/^[^ ]/ { keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } keep' requirements-dev.lock >wheel.lock \
    && /pip/bin/pip install --quiet --require-hashes -r wheel.lock \
    && /pip/bin/pip --python /opt/sibling-service/venv/bin/python install --quiet --require-hashes -r requirements.lock \
    && find /opt/sibling-service -name '*.so' -exec strip --strip-debug {} +

COPY pyproject.toml README.md LICENSE ./
COPY agent agent
COPY api api
RUN /pip/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /pip/bin/pip --python /opt/sibling-service/venv/bin/python install --quiet --no-deps --no-index /wheel/*.whl


# Debian has buildx from 13 on; it needs nothing else of that release. It is given the capability by which the service uses
# the engine's socket and reads the files of any user.
FROM ${BASE} AS buildx

RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    . /etc/os-release \
    && apt-get -qq update \
    && apt-get -qq install --yes --no-install-recommends libcap2-bin >/dev/null \
    && if [ -z "$(apt-cache search --names-only '^docker-buildx$')" ]; then \
        find /etc/apt/sources.list /etc/apt/sources.list.d -type f -exec sed -i "s/$VERSION_CODENAME/trixie/g" {} + \
        && apt-get -qq update; \
    fi \
    && cd /tmp \
    && apt-get -qq download docker-buildx \
    && dpkg -x docker-buildx_*.deb unpacked \
    && mkdir -p /opt/sibling-service/venv/bin \
    && cp unpacked/usr/libexec/docker/cli-plugins/docker-buildx /opt/sibling-service/venv/bin/ \
    && setcap cap_dac_override=ep /opt/sibling-service/venv/bin/docker-buildx


# What Jenkins agents run on, by the same recipe as outside of an image. Its classes are archived where it is installed, which
# takes a second and saves 14 MB here.
FROM ${BASE} AS java

RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    apt-get -qq update \
    && mkdir -p /usr/share/man/man1 \
    && apt-get -qq install --yes --no-install-recommends \
        "$(apt-cache search --names-only '^openjdk-(17|21)-jdk-headless$' | cut -d ' ' -f 1 | sort -V | tail -n 1)" >/dev/null

WORKDIR /source
COPY agent/__init__.py agent/errors.py agent/
COPY agent/files/__init__.py agent/files/tree.py agent/files/
COPY agent/toolkit agent/toolkit
RUN mkdir /opt/sibling-service \
    && python3 -c 'from pathlib import Path; from agent.toolkit import java; java.make_runtime(java.find_java(None), Path("/opt/sibling-service"))' \
    && rm /opt/sibling-service/jre/lib/server/classes.jsa


FROM ${BASE}

RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    apt-get -qq update \
    && apt-get -qq install --yes --no-install-recommends busybox-static git openssh-client >/dev/null \
    && rm -rf /usr/share/locale /usr/share/man /var/cache/apt/* /var/lib/apt/lists/* /var/log/* \
    && useradd --uid 10001 --create-home sibling \
    && install --directory --owner=sibling --group=sibling --mode=0711 /var/lib/sibling

COPY --from=java /opt/sibling-service /opt/sibling-service
COPY --from=buildx /opt/sibling-service /opt/sibling-service
COPY --from=build /opt/sibling-service /opt/sibling-service

ENV PATH=/opt/sibling-service/venv/bin:$PATH \
    SIBLING_DATA__DIR=/var/lib/sibling \
    SIBLING_AUTH__TOKEN_FILE=/var/lib/sibling/tokens \
    SIBLING_SERVER__HOST=0.0.0.0 \
    SIBLING_SERVER__PORT=8700
# By this label the service finds the container that it runs in, and so the name of its data volume.
LABEL sibling.role=service
USER sibling
EXPOSE 8700
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --start-interval=1s \
    CMD busybox wget -Y off -q -O /dev/null "http://127.0.0.1:$SIBLING_SERVER__PORT/healthz"
ENTRYPOINT ["sibling"]
CMD ["serve"]
