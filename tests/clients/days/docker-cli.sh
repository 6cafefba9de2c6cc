#!/usr/bin/env bash
# A day's work with the unmodified docker client. Given: DOCKER (the client), DOCKER_HOST, IMAGE (busybox),
# PREFIX (for names), REGISTRY (host:port, plain HTTP), SCRATCH (an empty folder), ENGINE_PID (to reach ports).
set -euo pipefail

d() { "$DOCKER" "$@"; }
fail() { echo "line ${BASH_LINENO[1]}: $*" >&2; exit 1; }
eq() { [ "$1" = "$2" ] || fail "expected: $2"$'\n'"     got: $1"; }
has() { case $1 in *"$2"*) ;; *) fail "no '$2' in: $1" ;; esac; }
code() { local c=0; "$@" >/dev/null 2>&1 || c=$?; echo "$c"; }
inside() { nsenter --net="/proc/$ENGINE_PID/ns/net" "$@"; }

export DOCKER_CONFIG=$SCRATCH/config
mkdir "$DOCKER_CONFIG"
label=$PREFIX-day
run=(run --label "$label")

echo "- version, info, lists"
has "$(d version --format '{{.Server.APIVersion}}')" "1."
has "$(d info --format '{{.OSType}}')" linux
has "$(d info)" "Server Version:"
has "$(d images --format '{{.Repository}}:{{.Tag}}')" "$IMAGE"
has "$(d network ls --format '{{.Name}}')" bridge
d volume ls >/dev/null
d system df >/dev/null

echo "- tag, push, remove, pull"
remote=$REGISTRY/$PREFIX/busybox:v1
d tag "$IMAGE" "$remote"
has "$(d push "$remote")" "digest: sha256:"
d rmi "$remote" >/dev/null
eq "$(code d image inspect "$remote")" 1
has "$(d pull "$remote")" "Status: Downloaded newer image for $remote"
has "$(d pull "$remote")" "Image is up to date for $remote"
has "$(d image inspect -f '{{json .RepoDigests}}' "$remote")" "$REGISTRY/$PREFIX/busybox@sha256:"
d rmi "$remote" >/dev/null
eq "$(d "${run[@]}" --rm "$remote" echo pulled by run 2>/dev/null)" "pulled by run"
has "$(d pull "$REGISTRY/$PREFIX/nope" 2>&1 || :)" "not found"

echo "- run"
eq "$(d "${run[@]}" --rm "$IMAGE" echo hello)" hello
eq "$(code d "${run[@]}" --rm "$IMAGE" sh -c 'exit 7')" 7
eq "$(code d "${run[@]}" --rm "$IMAGE" /no/such)" 127
eq "$(code d "${run[@]}" --rm "$IMAGE" /etc/passwd)" 126
eq "$(code d "${run[@]}" --nope "$IMAGE" true)" 125
eq "$(echo "from stdin" | d "${run[@]}" --rm -i "$IMAGE" cat)" "from stdin"
eq "$(d "${run[@]}" --rm "$IMAGE" sh -c 'echo out; echo err >&2' 2>/dev/null)" out
eq "$(d "${run[@]}" --rm -e A=b -w /tmp -u app -h box "$IMAGE" sh -c 'echo $A $(pwd) $(id -un) $(hostname)')" "b /tmp app box"
has "$(script -qec "$DOCKER run --rm -it $IMAGE sh -c 'test -t 0 && stty size && echo tty'" /dev/null </dev/null)" tty
echo seen >"$SCRATCH/file"
eq "$(d "${run[@]}" --rm -v "$SCRATCH:/mnt:ro" "$IMAGE" cat /mnt/file)" seen
eq "$(d "${run[@]}" --rm --mount "type=bind,src=$SCRATCH,dst=/mnt" --tmpfs /t --read-only --cap-drop ALL --memory 64m --cpus 0.5 --pids-limit 50 --init "$IMAGE" cat /mnt/file)" seen
d "${run[@]}" --rm --cidfile "$SCRATCH/cid" "$IMAGE" true
eq "$(wc -c <"$SCRATCH/cid")" 64

echo "- a server"
web=$PREFIX-web
d "${run[@]}" -d --name "$web" -p 127.0.0.1::80 -v "$SCRATCH:/mnt" "$IMAGE" sh -c 'trap "exit 0" TERM; echo started; nc -ll -p 80 -e cat /mnt/file & wait' >/dev/null
until d logs "$web" | grep -q started; do :; done
port=$(d port "$web" 80/tcp)
for _ in $(seq 200); do answer=$(inside busybox nc 127.0.0.1 "${port##*:}" </dev/null || :); [ -n "$answer" ] && break; sleep 0.05; done
eq "$answer" seen
eq "$(d ps --filter "name=$web" --format '{{.Names}} {{.Image}} {{.State}}')" "$web $IMAGE running"
has "$(d ps --filter "name=$web")" "->80/tcp"
eq "$(d inspect -f '{{.State.Running}} {{.Config.Image}}' "$web")" "true $IMAGE"
eq "$(d exec "$web" cat /mnt/file)" seen
eq "$(echo in | d exec -i "$web" cat)" in
eq "$(d exec -e X=y -w /tmp -u app "$web" sh -c 'echo $X $(pwd) $(id -u)')" "y /tmp 1000"
eq "$(code d exec "$web" sh -c 'exit 9')" 9
eq "$(code d exec "$web" /no/such)" 127
d exec -d "$web" touch /tmp/detached
until d exec "$web" test -e /tmp/detached; do :; done
has "$(d top "$web")" "sh -c trap"
has "$(d stats --no-stream --format '{{.Name}} {{.PIDs}}' "$web")" "$web"
d rename "$web" "$web-2" && d rename "$web-2" "$web"
d update --memory 100m --memory-swap 200m "$web" >/dev/null
eq "$(d inspect -f '{{.HostConfig.Memory}}' "$web")" 104857600
d pause "$web" >/dev/null
has "$(d ps --filter "name=$web" --format '{{.Status}}')" "(Paused)"
d unpause "$web" >/dev/null
d restart -t 5 "$web" >/dev/null
until [ "$(d logs "$web" | grep -c started)" = 2 ]; do :; done
d stop -t 5 "$web" >/dev/null
eq "$(d wait "$web")" 0
eq "$(d logs "$web" | sort -u)" started
d start "$web" >/dev/null
d kill "$web" >/dev/null
eq "$(d wait "$web")" 137
d rm "$web" >/dev/null

echo "- attach"
echoer=$PREFIX-echoer
d "${run[@]}" -di --name "$echoer" "$IMAGE" sh -c 'while read l; do echo "got $l"; [ "$l" = end ] && exit 4; done' >/dev/null
# Docker loses the output if the input ends before it comes.
out=$({ sleep 0.5; printf 'one\nend\n'; sleep 0.5; } | d attach "$echoer") && c=0 || c=$?
eq "$out $c" "got one"$'\n'"got end 4"
eq "$(d logs --tail 1 "$echoer")" "got end"
has "$(d logs -t "$echoer")" "Z got one"

echo "- files"
files=$PREFIX-files
d create --label "$label" --name "$files" "$IMAGE" sh -c 'cat /in/a/b; echo made >/home/made' >/dev/null
mkdir -p "$SCRATCH/in/a" && echo copied >"$SCRATCH/in/a/b"
d cp -q "$SCRATCH/in" "$files:/"
eq "$(d start -a "$files")" copied
d cp -q "$files:/home/made" "$SCRATCH/out"
eq "$(cat "$SCRATCH/out")" made
eq "$(d cp "$files:/home/made" - | tar -xO)" made
has "$(d diff "$files")" "A /home/made"
has "$(d export "$files" | tar -t)" "home/made"

echo "- images"
d commit -m why -c 'CMD ["cat", "/home/made"]' "$files" "$PREFIX-made:v1" >/dev/null
eq "$(d "${run[@]}" --rm "$PREFIX-made:v1")" made
has "$(d history --format '{{.Comment}}' "$PREFIX-made:v1")" why
d save -o "$SCRATCH/made.tar" "$PREFIX-made:v1"
d rmi "$PREFIX-made:v1" >/dev/null
eq "$(d load -q -i "$SCRATCH/made.tar")" "Loaded image: $PREFIX-made:v1"
eq "$(d "${run[@]}" --rm "$PREFIX-made:v1")" made
d rmi "$PREFIX-made:v1" >/dev/null
d export "$files" | d import -c 'CMD ["cat", "/home/made"]' - "$PREFIX-flat:v1" >/dev/null
eq "$(d "${run[@]}" --rm "$PREFIX-flat:v1")" made
d rmi "$PREFIX-flat:v1" >/dev/null

echo "- events, exit"
since=$(date +%s)
d "${run[@]}" --name "$PREFIX-ev" "$IMAGE" true
d rm "$PREFIX-ev" >/dev/null
eq "$(d events --since "$since" --until "$(($(date +%s) + 1))" --filter "container=$PREFIX-ev" --filter type=container --format '{{.Action}}' | tr '\n' ' ')" \
  "create attach start die destroy "
d "${run[@]}" -d --name "$PREFIX-left" "$IMAGE" true >/dev/null
d wait "$PREFIX-left" >/dev/null
d container prune -f --filter "label=$label" >/dev/null
eq "$(d ps -aq --filter "label=$label")" ""
has "$(d rm "$PREFIX-left" 2>&1 || :)" "No such container: $PREFIX-left"
d rmi "$remote" >/dev/null
echo "the day is done"
