#!/bin/sh
# What act calls for a job: a container in the network of its host, with the socket bound into it; files go in and out
# as archives, and the job reaches the servers for artifacts and caches that act itself listens with.
. "$(dirname "$0")/common.sh"

step "it knows the engine"
has "$(ok 200 GET /info)" '"OSType":"linux"'
eq "$(api GET /_ping)" OK
eq "$(text Os 200 GET "/images/$TOOLS/json")" linux

step "volumes that stay for the next run"
job=$NAME-act-ci-test
for volume in "$NAME-act-toolcache" "$job" "$job-env"; do ok 201 POST /volumes/create "{\"Name\":\"$volume\"}" >/dev/null; done

step "no container of an earlier run"
lacks "$(ok 200 GET "/containers/json?all=1")" "\"/$job\""

step "the job's container"
body="{\"Image\":\"$TOOLS\",\"WorkingDir\":\"/w/repo\",\"Entrypoint\":[\"tail\",\"-f\",\"/dev/null\"],\"Cmd\":null,\"Env\":[\"RUNNER_TOOL_CACHE=/opt/hostedtoolcache\",\"LANG=C.UTF-8\"],\"Tty\":false,\"HostConfig\":{\"Binds\":[\"$BIND:/var/run/docker.sock\"],\"Mounts\":[{\"Type\":\"volume\",\"Source\":\"$NAME-act-toolcache\",\"Target\":\"/opt/hostedtoolcache\"},{\"Type\":\"volume\",\"Source\":\"$job\",\"Target\":\"/w/repo\"},{\"Type\":\"volume\",\"Source\":\"$job-env\",\"Target\":\"/var/run/act\"}],\"NetworkMode\":\"host\",\"Privileged\":false,\"UsernsMode\":\"\",\"PortBindings\":null,\"CapAdd\":null,\"CapDrop\":null},\"NetworkingConfig\":null}"
id=$(text Id 201 POST "/containers/create?name=$job" "$body")
ok 204 POST "/containers/$id/start"

# run_in DIRECTORY SCRIPT: an exec, attached; its output (frames and all) in $WORK/output, then its exit code.
run_in() {
  script=$(printf '%s' "$2" | sed 's/\\/\\\\/g; s/"/\\"/g')
  exec_id=$(text Id 201 POST "/containers/$id/exec" "{\"User\":\"\",\"Cmd\":[\"sh\",\"-e\",\"-c\",\"$script\"],\"WorkingDir\":\"$1\",\"Env\":[\"CI=true\"],\"Tty\":false,\"AttachStderr\":true,\"AttachStdout\":true}")
  ok 200 POST "/exec/$exec_id/start" '{"Detach":false,"Tty":false}' >"$WORK/output"
  ok 200 GET "/exec/$exec_id/json" >/dev/null
  sed -n 's/.*"ExitCode":\([0-9]*\).*/\1/p' "$WORK/body"
}
# put DIRECTORY FILE: files go in as an archive, in a body of unknown length.
put() {
  tar -cC "$WORK/in" "$2" | $CURL -sS --unix-socket "$SOCKET" -X PUT -H "Content-Type: application/x-tar" -T - -o "$WORK/body" -w '%{http_code}' \
    "http://docker/v1.44/containers/$id/archive?path=$1&noOverwriteDirNonDir=true" >"$WORK/status"
  eq "$(cat "$WORK/status")" 200
}

step "who it is there"
eq "$(run_in / 'id -u')" 0
has "$(cat "$WORK/output")" 0

step "the repository and the step's files go in"
mkdir -p "$WORK/in/src" "$WORK/in/workflow"
echo "checked out" >"$WORK/in/src/file"
echo '{"ref":"main"}' >"$WORK/in/workflow/event.json"
printf '' >"$WORK/in/workflow/envs.txt"
put /w/repo src
put /var/run/act/ workflow
eq "$(run_in /w/repo 'cat src/file; pwd; cat /var/run/act/workflow/event.json; chown -R 0:0 /w/repo')" 0
has "$(cat "$WORK/output")" "checked out"
has "$(cat "$WORK/output")" '{"ref":"main"}'

step "what a step sets comes out"
eq "$(run_in /w/repo 'echo NAME=value >>/var/run/act/workflow/envs.txt')" 0
ok 200 GET "/containers/$id/archive?path=/var/run/act/workflow/envs.txt" >/dev/null
eq "$(tar -xOf "$WORK/body")" "NAME=value"
eq "$(run_in /w/repo 'exit 6')" 6
eq "$(run_in /w/repo 'nonsense')" 127

step "the cache's server, at an address of act's own"
address=$($INSIDE ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p')
mkdir "$WORK/cache"
echo "cached" >"$WORK/cache/entry"
$INSIDE busybox httpd -f -p 34567 -h "$WORK/cache" &
server=$!
trap 'kill $server' EXIT
until_true $INSIDE busybox wget -qO- http://127.0.0.1:34567/entry
eq "$(run_in / "busybox wget -qO- http://${address:-127.0.0.1}:34567/entry")" 0
has "$(cat "$WORK/output")" cached

step "the job's own containers"
if [ "$BIND" = /var/run/docker.sock ]; then
  eq "$(run_in /w/repo "docker run --rm -v /w/repo/src:/src $IMAGE cat /src/file; docker ps -q | wc -l")" 0
  has "$(cat "$WORK/output")" "checked out"
fi

step "with --bind the repository is act's own folder"
mkdir "$WORK/bound"
echo "not copied" >"$WORK/bound/file"
bound=$(text Id 201 POST "/containers/create?name=$job-bound" "{\"Image\":\"$TOOLS\",\"WorkingDir\":\"$WORK/bound\",\"Entrypoint\":[\"tail\",\"-f\",\"/dev/null\"],\"HostConfig\":{\"Binds\":[\"$BIND:/var/run/docker.sock\",\"$WORK/bound:$WORK/bound\"],\"NetworkMode\":\"host\"}}")
ok 204 POST "/containers/$bound/start"
volumes_job=$id id=$bound
eq "$(run_in "$WORK/bound" 'cat file; echo made >made')" 0
has "$(cat "$WORK/output")" "not copied"
eq "$(cat "$WORK/bound/made")" made
if [ "$BIND" = /var/run/docker.sock ]; then
  eq "$(run_in "$WORK/bound" "docker run --rm -v $WORK/bound:/src $IMAGE cat /src/made")" 0
  has "$(cat "$WORK/output")" made
fi
ok 204 DELETE "/containers/$bound?force=1&v=1"
id=$volumes_job

step "the end"
ok 204 DELETE "/containers/$id?force=1&v=1"
for volume in "$NAME-act-toolcache" "$job" "$job-env"; do ok 204 DELETE "/volumes/$volume?force=1"; done
echo "- done"
