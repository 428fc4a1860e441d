# Two images: `server` (uWSGI and the Flask application) and `nginx` (the site and the way in).
#   docker build --target server --tag pokegen-server .
#   docker build --target nginx --tag pokegen-nginx .
# --build-arg LOCK=traces adds what POKEGEN_TRACES needs.
# Both run as a normal user on a read-only root; the server writes nothing but what it fetches, to /cache if that is a
# volume, nginx only below /tmp.

FROM debian:bookworm-slim AS build
WORKDIR /srv/pokegen
COPY scripts/make-root scripts/
# /image becomes the server's whole root, and the rest builds what goes into it.
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv python3-dev g++ \
 && scripts/make-root /image python3 libpython3.11 libstdc++6 dash \
 # a read-only root cannot keep what Python compiles at its first import
 && python3 -m compileall -q --invalidation-mode unchecked-hash -s /image /image/usr/lib/python3* \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
ENV VENV=/opt/venv PIP_NO_CACHE_DIR=1
# First what changes rarely. The project installs itself as a pointer to this directory, so the environment
# stays the same, byte for byte, when only the code changes.
ARG LOCK=server
COPY requirements requirements
COPY scripts/install-python scripts/
COPY pyproject.toml ./
RUN touch README.md \
 && mkdir server finetune && touch server/__init__.py finetune/__init__.py \
 && scripts/install-python "$LOCK" \
 # a debugger's symbols; the wheels' own libraries would not survive strip
 && strip "$VENV/bin/uwsgi" \
 # what only whoever develops with the packages needs: their tests, types and static libraries
 && find "$VENV/lib" \( -type d -name tests -o -name '*.pyi' -o -name '*.a' \) -prune -exec rm -rf {} +
COPY scripts/build-native scripts/
COPY CMakeLists.txt ./
COPY server/engine/native/src server/engine/native/src
RUN scripts/build-native \
 # what only building needed
 && "$VENV/bin/python" -m pip uninstall -qq -y cmake nanobind ninja scikit-build-core pathspec wheel setuptools pip
COPY server server
RUN "$VENV/bin/python" -m compileall -q --invalidation-mode unchecked-hash server && rm -r server/engine/native/src


FROM scratch AS server
COPY --from=build /image /
WORKDIR /srv/pokegen
# GLIBC_TUNABLES: as in scripts/run.
ENV PATH=/opt/venv/bin:/usr/bin PYTHONDONTWRITEBYTECODE=1 \
    GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0 \
    POKEGEN_HTTP=0.0.0.0:5000 POKEGEN_SOCKET=0.0.0.0:3031 XDG_CACHE_HOME=/cache
COPY --from=build /opt/venv /opt/venv
# Another checkpoint: bake it in (--build-arg CHECKPOINT=checkpoint/jokes), or mount it and name it with POKEGEN_CHECKPOINT.
ARG CHECKPOINT=checkpoint/run1
COPY $CHECKPOINT checkpoint/run1
COPY --from=build /srv/pokegen/server server
# A new volume at /cache gets its owner from here; /mnt is merely an empty directory.
COPY --from=build --chown=10001:10001 /mnt /cache
USER 10001:10001
EXPOSE 5000 3031
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python", "-c", "from http.client import *; c = HTTPConnection('127.0.0.1', 5000, timeout=4); c.request('GET', '/readyz'); exit(c.getresponse().status != 200)"]
# A bad setting or checkpoint ends the container with one line instead of a traceback. The first process of a container
# hears no signal that it has not asked for, and a checkpoint may take minutes to fetch.
CMD ["sh", "-c", "trap 'exit 143' TERM INT; pokegen check & wait $! && eval \"$(pokegen env)\" && exec uwsgi --ini server/uwsgi.ini"]


FROM debian:bookworm-slim AS nginx
RUN apt-get update \
 && apt-get install -y --no-install-recommends nginx gettext-base \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
WORKDIR /srv/pokegen
COPY nginx nginx
ENV NGINX_LISTEN=8080 NGINX_UPSTREAM=server:3031 NGINX_RUN=/tmp
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --retries=3 \
  CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'HEAD / HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
# TERM would cut answers off.
STOPSIGNAL SIGQUIT
CMD ["nginx/start"]
