#!/bin/sh
# A project's life under the unmodified `docker compose`. Given: DOCKER (the client), DOCKER_HOST, DOCKER_CONFIG
# (with cli-plugins/docker-compose), FILES (a writable copy of this folder), IMAGE (busybox), PROJECT, PORT, SUBNET
# (three numbers), INSIDE (a command that runs another where published ports are, or nothing).
set -eu

fail() { echo "failed after '$step': $*" >&2; c ps -a >&2 || :; exit 1; }
eq() { [ "$1" = "$2" ] || fail "expected: $2
     got: $1"; }
has() { case $1 in *"$2"*) ;; *) fail "no '$2' in: $1" ;; esac; }
lacks() { case $1 in *"$2"*) fail "'$2' in: $1" ;; esac; }
step() { step=$*; echo "- $step"; }
d() { "$DOCKER" "$@"; }
c() { "$DOCKER" compose --progress quiet --ansi never -p "$PROJECT" "$@"; }
page() { $INSIDE busybox nc 127.0.0.1 "$1" </dev/null; }
until_true() { i=0; until "$@" >/dev/null 2>&1; do i=$((i + 1)); [ $i -lt 600 ] || fail "never came true: $*"; sleep 0.05; done; }
export TOKEN=from-the-environment IMAGE PROJECT PORT SUBNET
cd "$FILES"

step config
has "$(c version --short)" "2."
eq "$(c config --services | sort | tr '\n' ' ')" "beside db migrate web worker "
eq "$(c --profile debug config --services | grep -c extra)" 1

step up --wait
c up -d --wait
has "$(c ps --format '{{.Service}} {{.Health}}')" "db healthy"
has "$(c ps --format '{{.Service}} {{.Health}}')" "web healthy"
eq "$(c ps -a --format '{{.ExitCode}}' migrate)" 0
eq "$(c ps --services | sort | tr '\n' ' ')" "beside db web worker "
lacks "$(c ps -a --services)" extra

step "ports, configs and secrets"
eq "$(page "$PORT")" "the page"
eq "$(c port web 80)" "127.0.0.1:$PORT"
ephemeral=$(c port web 81)
[ "${ephemeral##*:}" -ge 1024 ] || fail "$ephemeral"
eq "$(c exec -T web cat /etc/inline)" "for $PROJECT"
eq "$(c exec -T web stat -c %a /etc/inline)" 440
eq "$(c exec -T web cat /etc/env_page)" from-the-environment
eq "$(c exec -T web cat /run/secrets/token)" s3cret
eq "$(c exec -T web cat /run/secrets/from_env)" from-the-environment

step "names and addresses"
has "$(c exec -T worker nslookup database)" "$SUBNET.77"
has "$(c exec -T worker nslookup db)" "$SUBNET.77"
has "$(c exec -T web nslookup worker)" "$SUBNET."
eq "$(c exec -T beside hostname)" "$(c exec -T web hostname)"
has "$(c exec -T beside nc 127.0.0.1 80 </dev/null)" "the page"
eq "$(c exec -T db cat /data/schema)" schema
eq "$(d inspect -f '{{index .Config.Labels "origin"}}' "$PROJECT-worker-1")" base
eq "$(d volume inspect -f '{{index .Labels "com.docker.compose.project"}}' "${PROJECT}_data")" "$PROJECT"
eq "$(d network inspect -f '{{index .Labels "com.docker.compose.network"}}' "${PROJECT}_back")" back

step "up again changes nothing"
id=$(c ps -q web)
c up -d --wait
eq "$(c ps -q web)" "$id"
eq "$(c exec -T db cat /data/schema | sort -u)" schema

step exec
eq "$(echo typed | c exec -T worker cat)" typed
set +e
c exec -T worker sh -c 'exit 7'
eq "$?" 7
set -e

step run
eq "$(c run --rm -T --no-deps worker sh -c 'echo "$X $(hostname)" | cut -d" " -f1' 2>/dev/null)" ""
eq "$(c run --rm -T --no-deps -e X=1 worker sh -c 'echo $X' 2>/dev/null)" 1
set +e
c run --rm -T --no-deps worker sh -c 'exit 9' 2>/dev/null
eq "$?" 9
set -e

step scale
c up -d --no-recreate --scale worker=3 worker
eq "$(c ps -q worker | wc -l | tr -d ' ')" 3
eq "$(c exec -T db nslookup pool 127.0.0.11 | grep -c "Address.*$SUBNET\.")" 3
c scale worker=1
eq "$(c ps -q worker | wc -l | tr -d ' ')" 1

step "logs and top"
has "$(c logs --no-log-prefix web)" serving
c logs -f --no-log-prefix web >followed 2>&1 &
follower=$!
until_true grep -q serving followed
has "$(c top worker)" "sleep 1000"

step "cp"
echo copied >here
c cp here worker:/tmp/there
eq "$(c exec -T worker cat /tmp/there)" copied
c cp worker:/tmp/there back
eq "$(cat back)" copied

step "events, pause, restart, stop and start"
c events --json >events 2>&1 &
listener=$!
until_true sh -c 'grep -q . events || { "$DOCKER" compose -p "$PROJECT" kill -s WINCH worker >/dev/null 2>&1; false; }'
c pause worker
eq "$(c ps --format '{{.State}}' worker)" paused
c unpause worker
c restart -t 20 worker
eq "$(c ps --format '{{.State}}' worker)" running
c stop web
until_true grep -q '"action":"stop"' events
for action in kill pause unpause restart die stop; do grep -q "\"action\":\"$action\"" events || fail "no $action in $(cat events)"; done
kill $listener
wait $listener 2>/dev/null || :
wait $follower || fail "logs -f does not end well"
c start web
until_true sh -c "[ \"\$($INSIDE busybox nc 127.0.0.1 $PORT </dev/null)\" = 'the page' ]"

step "watch"
c -f watch.yaml up -d watched
# Not by the function, whose shell would be what is ended.
"$DOCKER" compose --progress quiet --ansi never -p "$PROJECT" -f watch.yaml watch --no-up >watching 2>&1 &
watcher=$!
until_true grep -q "Watch enabled" watching
synced() {
  echo two >src/file
  j=0
  while [ $j -lt 60 ]; do
    [ "$(c -f watch.yaml exec -T watched cat /app/file 2>/dev/null)" != two ] || return 0
    j=$((j + 1))
    sleep 0.1
  done
  return 1
}
# Written again now and then, for what was written before the watch began.
until_true synced
kill $watcher
wait $watcher 2>/dev/null || :
c -f watch.yaml rm -sf watched

step "a profile"
c --profile debug up -d extra
has "$(c exec -T extra nslookup db)" "$SUBNET.77"

step "up in front ends with an interrupt"
c stop worker
"$DOCKER" compose --ansi never -p "$PROJECT" up --no-deps --no-color worker >front 2>&1 &
front=$!
until_true sh -c "\"$DOCKER\" compose -p $PROJECT ps --format '{{.State}}' worker | grep -q running"
until_true grep -q Attaching front
kill -INT $front
wait $front || :
until_true sh -c "\"$DOCKER\" compose -p $PROJECT ps -a --format '{{.State}}' worker | grep -q exited"

step "down"
c --profile debug down
eq "$(c ps -aq)" ""
eq "$(d volume ls -q -f "name=^${PROJECT}_data$")" "${PROJECT}_data"
eq "$(d network ls -q -f "label=com.docker.compose.project=$PROJECT")" ""
step "up once more finds the data"
c up -d --wait db
eq "$(c exec -T db cat /data/schema | sort -u)" schema
c down -v
eq "$(d volume ls -q -f "label=com.docker.compose.project=$PROJECT")" ""
eq "$(d ps -aq -f "label=com.docker.compose.project=$PROJECT")" ""
echo "- done"
