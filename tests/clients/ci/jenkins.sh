#!/bin/sh
# What the plugin docker-workflow of Jenkins calls for an `agent { docker }`, and what durable-task runs in it. Given
# besides what common.sh says: AGENT_IMAGE and AGENT_ARGS of the pipeline, and its steps, a line each, in STEPS.
. "$(dirname "$0")/common.sh"

step "the client's version"
like "$(d -v)" '^[^0-9]+[0-9]+\.[0-9]+\.[0-9]+'

step "which container is this"
self=$(grep -o '[a-z0-9]\{64\}' /proc/self/cgroup | tail -n 1)
[ -n "$self" ] || self=$(sed -n 's,.*/containers/\([a-z0-9]\{64\}\)/hostname.*,\1,p' /proc/1/mountinfo | head -n 1)
if [ "$CONTAINED" = yes ]; then eq "$self" "$(d inspect -f '{{.Id}}' "$(hostname)")"; fi

# inside WORKSPACE: a container that has the workspace under the same path, as the plugin makes it.
inside() {
  ws=$1
  mkdir -p "$ws" "$ws@tmp"
  volumes=
  if [ -n "$self" ]; then volumes=$(d inspect -f '{{range .Mounts}}{{.Destination}}
{{end}}' "$self" 2>/dev/null) || volumes=; fi
  shared="-v $ws:$ws:rw,z -v $ws@tmp:$ws@tmp:rw,z"
  for volume in $volumes; do case $ws in "$volume"/*) shared="--volumes-from $self" ;; esac; done
  id=$(d run -t -d -u "$(id -u):$(id -g)" $AGENT_ARGS -w "$ws" $shared -e CI=true -e BUILD_NUMBER=7 "$AGENT_IMAGE" cat)
  has "$(d top "$id" -eo pid,comm | tail -n +2)" cat
}

# sh_step SCRIPT: durable-task's way. The exec ends at once; what is left running writes its log and its exit code into
# the workspace, where Jenkins, outside, waits for them.
sh_step() {
  control=$ws@tmp/durable-1
  rm -rf "$control"
  mkdir "$control"
  printf '#!/bin/sh -xe\n%s\n' "$1" >"$control/script.sh"
  chmod +x "$control/script.sh"
  d exec --env JENKINS_NODE_COOKIE=cookie-1 --workdir "$ws" "$id" nohup sh -c "({ while [ -d '$control' -a ! -f '$control/result' ]; do touch '$control/log'; sleep 1; done } & jsc=durable-1; JENKINS_SERVER_COOKIE=\$jsc '$control/script.sh' > '$control/log' 2>&1; echo \$? > '$control/result.tmp'; mv '$control/result.tmp' '$control/result'; wait) >&- 2>&- &"
}
finished() {
  until_true test -f "$control/result"
  cat "$control/log"
  eq "$(cat "$control/result")" "$1"
}

step "a workspace in a volume of the container, or on the machine"
inside "$WORK/workspace/job"
if [ "$CONTAINED" = yes ]; then has "$shared" "--volumes-from $self"; fi

step "its fingerprint"
like "$(d inspect -f '{{.Config.Hostname}}' "$id")" '^[0-9a-f]{12}$'
like "$(d inspect -f '{{.Name}}' "$id")" '^/.'
like "$(d inspect -f '{{json .Created}}' "$id")" '^"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}'
image=$(d inspect -f '{{.Image}}' "$id")
eq "$(d inspect -f '{{.Id}}' "$image")" "$image"

step "its steps"
echo "from the agent" >"$ws/source"
echo "$STEPS" | while IFS= read -r line; do
  sh_step "$line"
  finished 0
done
sh_step 'cat source; echo "$CI $BUILD_NUMBER"; id -u >made; exit 3'
has "$(finished 3)" "from the agent"
eq "$(cat "$ws/made")" "$(id -u)"

step "an aborted step"
sh_step 'exec sleep 100000'
ours() { d exec "$id" ps -A -o pid,command e | grep 'JENKINS_SERVER_COOKIE=durable-1' | sed 's/^ *//' | cut -d ' ' -f 1; }
until_true sh -c "\"$DOCKER\" exec $id ps -A -o pid,command e | grep -q 'sleep 100000.*JENKINS_SERVER_COOKIE=durable-1'"
d exec "$id" kill $(ours) || fail "kill"
finished 143

step "the end"
d stop --time=1 "$id" >/dev/null 2>&1
d rm -f --volumes "$id" >/dev/null
eq "$(code d inspect "$id")" 1
eq "$(cat "$ws/source")" "from the agent"

step "a workspace beside all volumes"
inside "$(mktemp -d)/job"
has "$shared" "-v $ws"
echo "from the agent" >"$ws/source"
sh_step 'cat source >copied'
finished 0
eq "$(cat "$ws/copied")" "from the agent"
d stop --time=1 "$id" >/dev/null 2>&1
d rm -f --volumes "$id" >/dev/null
rm -rf "${ws%/job}"
echo "- done"
