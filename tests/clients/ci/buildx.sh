# What the scripts about builds share. Given besides: PLUGINS, a folder with docker-compose and docker-buildx, and
# REGISTRY, the program of one.
. "$(dirname "$0")/common.sh"

export HOME="$WORK/home"
unset DOCKER_CONFIG DOCKER_BUILDKIT BUILDX_BUILDER BUILDX_CONFIG
mkdir -p "$HOME/.docker" "$WORK/app"
ln -s "$PLUGINS" "$HOME/.docker/cli-plugins"

# What a build or its refusal must leave as they were.
there() { d ps -a --no-trunc --format '{{.ID}} {{.Names}}'; d volume ls -q; d network ls -q; d images -a --no-trunc -q; }

# refuses WORDS COMMAND…: it ends by itself, not well, and says the words.
refuses() {
  wanted=$1 c=0
  shift
  said=$(timeout 60 "$@" 2>&1 </dev/null) || c=$?
  { [ $c -ne 0 ] && [ $c -ne 124 ] && [ $c -ne 143 ]; } || fail "$*: status $c: $said"
  has "$said" "$wanted"
}

# A registry where the host's own loopback is, until the script ends.
address=127.0.0.1:5000
serve_registry() {
  cat >"$WORK/registry.yml" <<CONFIG
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $WORK/registry}}
http: {addr: $address}
CONFIG
  $INSIDE "$REGISTRY" serve "$WORK/registry.yml" >"$WORK/registry.log" 2>&1 &
  registry=$!
  trap 'kill $registry' EXIT
  until_true $INSIDE busybox nc -w 1 127.0.0.1 5000
}
