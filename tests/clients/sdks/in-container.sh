# A client's day in a container that is a host, with a registry of the host's own. Given: the words of the client.
set -e
mkdir -p /tmp/registry
cat >/tmp/registry/config.yml <<CONFIG
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: /tmp/registry/storage}}
http: {addr: 127.0.0.1:5000}
CONFIG
docker-registry serve /tmp/registry/config.yml >/tmp/registry/log 2>&1 &
registry=$!
until nc -w 1 127.0.0.1 5000 </dev/null; do kill -0 $registry || { cat /tmp/registry/log; exit 1; }; sleep 0.1; done
export DOCKER_HOST=unix:///var/run/docker.sock DOCKER_SOCKET=/var/run/docker.sock PREFIX=inside REGISTRY=127.0.0.1:5000
"$@" || code=$?
kill $registry
exit ${code:-0}
