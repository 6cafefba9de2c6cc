#!/bin/sh
# What GitHub's runner calls for a job with `container:`, `services:` and a step that is a container action. Given
# besides what common.sh says: JOB_IMAGE and SERVICE_IMAGE of the workflow, and the job's `run` lines in STEPS.
. "$(dirname "$0")/common.sh"

if [ "$CONTAINED" = yes ]; then
  step "it would refuse in a container of Docker's that sees its own control group"
  lacks "$(cat /proc/1/cgroup)" ":/docker/"
fi

step "versions"
for side in Server Client; do
  version=$(d version --format "{{.$side.APIVersion}}")
  like "$version" '^[0-9]+\.[0-9]+$'
  [ "${version#*.}" -ge 35 ] || fail "$side: $version"
done

step "what earlier jobs left"
label=$(echo "$NAME" | md5sum | cut -c 1-6)
stale=$(d create --label "$label" "$IMAGE" true)
d network create --label "$label" "$NAME-stale" >/dev/null
eq "$(d ps --all --quiet --no-trunc --filter "label=$label")" "$stale"
d rm --force "$stale" >/dev/null
has "$(d network prune --force --filter "label=$label")" "$NAME-stale"

step "a network"
network=github_network_$(echo "$NAME" | md5sum | cut -c 1-32)
d network create --label "$label" "$network" >/dev/null

running() { d ps --all --filter "id=$1" --filter status=running --no-trunc --format "{{.ID}} {{.Status}}"; }

step "a service"
d inspect "$SERVICE_IMAGE" >/dev/null
service=$(d create --name "$NAME-service" --label "$label" --network "$network" --network-alias backend -p 8080 \
  --health-cmd "echo ready | nc 127.0.0.1 8080" --health-interval 300ms --health-retries 100 -e "GITHUB_ACTIONS=true" -e CI=true \
  --entrypoint sh "$SERVICE_IMAGE" -c 'mkdir /www; echo "the service" >/www/index.html; exec busybox httpd -f -p 8080 -h /www')
eq "$(d start "$service")" "$service"
has "$(running "$service")" "$service Up"
like "$(d port "$service" | head -n 1)" '^8080/tcp -> 0\.0\.0\.0:[0-9]+$'

step "the job's container"
work=$WORK/_work
for folder in "$work/repo/repo" "$WORK/externals" "$work/_temp/_github_home" "$work/_temp/_github_workflow" "$work/_actions" "$work/_tool"; do mkdir -p "$folder"; done
echo "node" >"$WORK/externals/node"
job=$(d create --name "$NAME-job" --label "$label" --workdir /__w/repo/repo --network "$network" \
  -e "HOME=/github/home" -e GITHUB_ACTIONS=true -e CI=true -v "$BIND":"/var/run/docker.sock" -v "$work":"/__w" -v "$WORK/externals":"/__e":ro \
  -v "$work/_temp":"/__w/_temp" -v "$work/_actions":"/__w/_actions" -v "$work/_tool":"/__w/_tool" \
  -v "$work/_temp/_github_home":"/github/home" -v "$work/_temp/_github_workflow":"/github/workflow" --entrypoint "tail" "$JOB_IMAGE" "-f" "/dev/null")
d start "$job" >/dev/null
has "$(running "$job")" "$job Up"
has "$(d inspect --format '{{range .Config.Env}}{{println .}}{{end}}' "$job")" "PATH=/"

step "the service is healthy"
health() { d inspect --format="{{if .Config.Healthcheck}}{{print .State.Health.Status}}{{end}}" "$service"; }
until_true sh -c "\"$DOCKER\" inspect --format='{{if .Config.Healthcheck}}{{print .State.Health.Status}}{{end}}' $service | grep -qv starting"
eq "$(health)" healthy

# Where it is for steps that run beside the containers.
port=$(d port "$service" | sed -n 's/^8080.tcp -> 0\.0\.0\.0://p')
eq "$($INSIDE busybox wget -qO- "http://localhost:$port/")" "the service"

# run_step SCRIPT: a file in the runner's temporary folder, run in the job's container.
run_step() {
  printf '%s\n' "$1" >"$work/_temp/step.sh"
  GITHUB_WORKSPACE=/__w/repo/repo d exec -i --workdir /__w/repo/repo -e GITHUB_WORKSPACE "$job" sh -e /__w/_temp/step.sh
}

step "its steps"
echo "checked out" >"$work/repo/repo/file"
eq "$(run_step 'cat file; pwd; cat /__e/node')" "checked out
/__w/repo/repo
node"
eq "$(run_step 'busybox wget -qO- http://backend:8080/')" "the service"
eq "$(code run_step 'touch /__e/x')" 1
run_step 'echo made >made; echo "name=value" >/github/home/.env'
eq "$(cat "$work/repo/repo/made" "$work/_temp/_github_home/.env")" "made
name=value"
eq "$(code run_step 'exit 5')" 5
run_step "$STEPS"

step "an action that is a container"
mkdir -p "$work/_temp/_runner_file_commands"
out=$(INPUT_WHO=world HOME=/github/home d run --name "$NAME-action" --label "$label" --workdir /github/workspace --rm -e INPUT_WHO -e HOME \
  -e GITHUB_ACTIONS=true -e CI=true --entrypoint "sh" --network "$network" -v "$BIND":"/var/run/docker.sock" -v "$work/_temp/_github_home":"/github/home" \
  -v "$work/_temp/_runner_file_commands":"/github/file_commands" -v "$work/repo/repo":"/github/workspace" "$IMAGE" -c 'echo "hello $INPUT_WHO from $HOME"; cat made; echo x=y >/github/file_commands/output')
eq "$out" "hello world from /github/home
made"
eq "$(cat "$work/_temp/_runner_file_commands/output")" "x=y"

step "the end"
for container in "$job" "$service"; do d rm --force "$container" >/dev/null; done
d network rm "$network" >/dev/null
eq "$(d ps --all --quiet --filter "label=$label")$(d network ls --quiet --filter "label=$label")" ""
echo "- done"
