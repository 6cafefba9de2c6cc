#!/bin/sh
# Docker in a container: the real dockerd in a privileged one, as of docker:dind, with what people do in it.
. "$(dirname "$0")/buildx.sh"
before=$(there)
name=$NAME-dind

step "its start"
d run -d --privileged --name "$name" -v /var/lib/docker -v "$(command -v "$DOCKER"):/usr/bin/docker:ro" -v "$PLUGINS/docker-buildx:/usr/libexec/docker/cli-plugins/docker-buildx:ro" \
  --entrypoint dockerd "$BUILDKIT" >/dev/null
within() { d exec -i "$name" "$@"; }
until_true within docker version
like "$(within docker info -f '{{.Driver}}')" '^overlay'

step "a build, by BuildKit and by the builder before it"
within sh -c 'mkdir /app && cp /bin/busybox /app/'
printf 'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "mkdir", "/made"]\n' | within sh -c 'cat >/app/Dockerfile'
within docker build -q -t new /app >/dev/null
within env DOCKER_BUILDKIT=0 docker build -q -t old /app >/dev/null 2>&1

step "containers, with limits and with ports"
for image in new old; do has "$(within docker run --rm $image /bin/busybox ls /)" made; done
within docker run -d --name web --memory 64m --cpus 0.5 -p 8080:80 new /bin/busybox httpd -f -p 80 -h / >/dev/null
until_true within wget -qO- http://127.0.0.1:8080/bin/busybox
eq "$(within docker exec web /bin/busybox echo inside)" inside
eq "$(within docker inspect -f '{{.HostConfig.Memory}}' web)" 67108864

step "it is restarted with its images"
d restart -t 20 "$name" >/dev/null
until_true within docker version
eq "$(within docker images -q | wc -l)" 2

step "nothing is left, with a container in it running"
within docker start web >/dev/null
d rm -fv "$name" >/dev/null
eq "$(there)" "$before"
echo "- done"
