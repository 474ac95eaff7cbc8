# crossfade as an image: the pinned packages of constraints.txt, a user without rights, nothing else.
#
#   docker build -t crossfade .
#
# The base may be another one (a mirror, a digest): --build-arg PYTHON=registry.example/python@sha256:...
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
RUN python -m venv /opt/crossfade
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY broker broker
COPY connectors connectors
COPY policies policies
COPY sandbox sandbox
COPY examples examples
RUN /opt/crossfade/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM ${PYTHON}
# sh, sha256sum and the like are in the base: local sites need no more
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/crossfade --shell /usr/sbin/nologin crossfade \
    && install -d -o crossfade -g crossfade -m 0700 /var/lib/crossfade /run/world
COPY --from=build /opt/crossfade /opt/crossfade
ENV PATH=/opt/crossfade/bin:/usr/local/bin:/usr/bin:/bin \
    CROSSFADE_HOME=/var/lib/crossfade \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER crossfade
VOLUME /var/lib/crossfade
ENTRYPOINT ["crossfade"]
CMD ["--help"]
