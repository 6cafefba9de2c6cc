#!/bin/sh
# What GitLab Runner's docker executor calls for a job with a service and a cache, with and without a network for each
# build. Given besides what common.sh says: JOB_IMAGE, SERVICE_IMAGE and SERVICE_ALIAS, and the job's script in STEPS.
. "$(dirname "$0")/common.sh"

project=$NAME-project-1-concurrent-0
label='"com.gitlab.gitlab-runner.managed":"true","com.gitlab.gitlab-runner.job.id":"1"'

step info
has "$(ok 200 GET /info)" '"OSType":"linux"'
image_of() { text Id 200 GET "/images/$1/json"; }
helper=$(image_of "$IMAGE")
job_image=$(image_of "$JOB_IMAGE")
service_image=$(image_of "$SERVICE_IMAGE")

# create NAME BODY: a container; its id.
create() { text Id 201 POST "/containers/create?name=$1" "$2"; }
# ended ID: waits for its end, as the runner does, and gives the exit code.
ended() {
  ok 200 POST "/containers/$1/wait?condition=not-running" >/dev/null
  sed -n 's/.*"StatusCode":\([0-9]*\).*/\1/p' "$WORK/body"
}
remove() { ok 204 DELETE "/containers/$1?force=1&v=1"; }

step "volumes for the cache and the builds, and a container that gives them to every user"
volume() {
  ok 201 POST /volumes/create "{\"Name\":\"$1\",\"Labels\":{$label}}" >/dev/null
  id=$(create "$1-set-permission" "{\"Image\":\"$helper\",\"Cmd\":[\"sh\",\"-c\",\"chmod 777 $2\"],\"Labels\":{$label},\"HostConfig\":{\"Binds\":[\"$1:$2\"],\"LogConfig\":{\"Type\":\"json-file\"}}}")
  ok 204 POST "/containers/$id/start"
  eq "$(ended "$id")" 0
  remove "$id"
}
cache=$project-cache-3c3f060a0374fc8bc39395164f415a70
builds=$project-cache-c33bcaa1fd2c77edfc3893b41966cea8
volume "$cache" /cache
volume "$builds" /builds
ok 200 GET "/volumes/$cache" >/dev/null

# piped ID SCRIPT: attaches, starts, writes the script and closes, and reads to the end. What came is in $WORK/output.
piped() {
  rm -f "$WORK/pipe"
  mkfifo "$WORK/pipe"
  $SOCAT -t 60 - "UNIX-CONNECT:$SOCKET" <"$WORK/pipe" >"$WORK/output" &
  reader=$!
  exec 9>"$WORK/pipe"
  printf 'POST /v1.44/containers/%s/attach?stderr=1&stdin=1&stdout=1&stream=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n' "$1" >&9
  until_true grep -aq "101 UPGRADED" "$WORK/output"
  ok 204 POST "/containers/$1/start"
  printf '%s\n' "$2" >&9
  exec 9>&-
  wait "$reader"
  ended "$1"
}

# a_job KIND, and the parts of the bodies that say how containers find each other, in JOB_NET and SERVICE_NET.
a_job() {
  step "$1: a service"
  service=$(create "$project-$1-service-0" "{\"Image\":\"$service_image\",\"Hostname\":\"\",\"Labels\":{$label},\"Env\":[\"CI=true\"],\"ExposedPorts\":{\"8080/tcp\":{}},\"Cmd\":[\"sh\",\"-c\",\"mkdir /www; echo the service >/www/index.html; exec busybox httpd -f -p 8080 -h /www\"],\"HostConfig\":{\"RestartPolicy\":{\"Name\":\"no\"},\"Privileged\":false,\"LogConfig\":{\"Type\":\"json-file\"},\"NetworkMode\":\"$MODE\"}$(aliases "\"$SERVICE_ALIAS\",\"$project-$1-service-0\"")}")
  ok 204 POST "/containers/$service/start"

  step "$1: a container that waits for it"
  if [ "$MODE" = default ]; then
    wait_for='"HostConfig":{"LogConfig":{"Type":"json-file"},"NetworkMode":"default","Links":["/'$project-$1-service-0':service"]}'
    env='"Env":["CI=true"]'
    look='until nc $SERVICE_PORT_8080_TCP_ADDR $SERVICE_PORT_8080_TCP_PORT </dev/null; do sleep 0.1; done'
  else
    wait_for='"HostConfig":{"LogConfig":{"Type":"json-file"},"NetworkMode":"'$MODE'"}'
    env="\"Env\":[\"WAIT_FOR_SERVICE_TCP_ADDR=$(echo "$service" | cut -c 1-12)\",\"WAIT_FOR_SERVICE_TCP_PORT=8080\"]"
    look='until nc $WAIT_FOR_SERVICE_TCP_ADDR $WAIT_FOR_SERVICE_TCP_PORT </dev/null; do sleep 0.1; done'
  fi
  waiter=$(create "$project-$1-wait-for-service" "{\"Image\":\"$helper\",\"Cmd\":[\"sh\",\"-c\",\"$look\"],$env,\"Labels\":{$label},$wait_for}")
  ok 204 POST "/containers/$waiter/start"
  eq "$(ended "$waiter")" 0
  remove "$waiter"

  step "$1: the helper's container, started once for each stage"
  links=
  [ "$MODE" != default ] || links=",\"Links\":[\"$project-$1-service-0:$SERVICE_ALIAS\"]"
  host="\"HostConfig\":{\"Binds\":[\"$cache:/cache\",\"$builds:/builds\",\"$BIND:/var/run/docker.sock\"],\"RestartPolicy\":{\"Name\":\"no\"},\"LogConfig\":{\"Type\":\"json-file\"},\"NetworkMode\":\"$MODE\"$links}$(aliases "\"build\",\"$project-$1\"")"
  stdin='"Tty":false,"AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"OpenStdin":true,"StdinOnce":true'
  predefined=$(create "$project-$1-predefined" "{\"Image\":\"$helper\",\"Hostname\":\"$project\",\"Cmd\":[\"sh\"],\"Env\":[\"CI_PROJECT_DIR=/builds/group/project\"],$stdin,\"Labels\":{$label},$host}")
  eq "$(piped "$predefined" 'mkdir -p $CI_PROJECT_DIR; echo "checked out" >$CI_PROJECT_DIR/file; echo sources')" 0
  has "$(cat "$WORK/output")" sources
  eq "$(piped "$predefined" 'cat /cache/archive 2>/dev/null; echo restored; exit 3')" 3
  has "$(cat "$WORK/output")" restored

  step "$1: the job's container, its script on standard input"
  build=$(create "$project-$1-build" "{\"Image\":\"$job_image\",\"Hostname\":\"$project\",\"Cmd\":[\"sh\",\"-c\",\"if [ -x /bin/bash ]; then exec /bin/bash; else exec sh; fi\"],\"Env\":[\"CI_PROJECT_DIR=/builds/group/project\"],$stdin,\"Labels\":{$label},$host}")
  eq "$(text Name 200 GET "/containers/$build/json")" "/$project-$1-build"
  eq "$(piped "$build" "set -e
cd \$CI_PROJECT_DIR; cat file; echo made >made; echo archive >>/cache/archive; busybox wget -qO- http://$SERVICE_ALIAS:8080/
$STEPS")" 0 || fail "$(cat "$WORK/output")"
  has "$(cat "$WORK/output")" "checked out"
  has "$(cat "$WORK/output")" "the service"
  eq "$(piped "$predefined" 'cat $CI_PROJECT_DIR/made')" 0
  has "$(cat "$WORK/output")" made

  step "$1: a job that is cancelled"
  ok 204 POST "/containers/$predefined/start"
  exec_id=$(text Id 201 POST "/containers/$predefined/exec" '{"AttachStdout":true,"AttachStderr":true,"Cmd":["sh","-c","kill -TERM 1 && echo sent"]}')
  has "$(ok 200 POST "/exec/$exec_id/start" '{"Detach":false,"Tty":false}')" sent
  ok 204 POST "/containers/$predefined/stop?t=1"
  ended "$predefined" >/dev/null

  step "$1: all goes but the cache"
  has "$(ok 200 GET /networks)" '"Name":"bridge"'
  for id in "$build" "$predefined" "$service"; do remove "$id"; done
}

MODE=default
aliases() { :; }
a_job links

MODE=$NAME-network
network=$(text Id 201 POST /networks/create "{\"Name\":\"$MODE\",\"Labels\":{$label},\"EnableIPv6\":false}")
aliases() { echo ",\"NetworkingConfig\":{\"EndpointsConfig\":{\"$MODE\":{\"Aliases\":[$1]}}}"; }
a_job network
ok 204 DELETE "/networks/$network"

step "the cache is there for the next job"
eq "$(d run --rm -v "$cache:/cache" "$IMAGE" sh -c 'wc -l </cache/archive')" 2
for volume in "$builds" "$cache"; do ok 204 DELETE "/volumes/$volume"; done
eq "$(d ps -aq --filter name="$project")$(d volume ls -q --filter name="$project")" ""
echo "- done"
