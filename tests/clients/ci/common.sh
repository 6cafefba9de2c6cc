# What the replays share. Given to each: DOCKER (the client), DOCKER_HOST (of the machine; nothing in a container),
# SOCKET (where the engine listens, as a path), BIND (what a bind of the socket names), CURL, SOCAT, IMAGE (busybox),
# TOOLS (an image with docker, curl, socat and ps), NAME (begins all names), WORK (a folder of the tool's own), INSIDE
# (a command that runs another where published ports are, or nothing), CONTAINED (yes in a container with the socket).
set -eu

fail() { echo "failed after '$step': $*" >&2; d ps -a >&2 || :; exit 1; }
eq() { [ "$1" = "$2" ] || fail "expected: $2
     got: $1"; }
has() { case $1 in *"$2"*) ;; *) fail "no '$2' in: $1" ;; esac; }
lacks() { case $1 in *"$2"*) fail "'$2' in: $1" ;; esac; }
like() { echo "$1" | grep -Eq "$2" || fail "not like $2: $1"; }
step() { step=$*; echo "- $step"; }
d() { "$DOCKER" "$@"; }
code() { c=0; "$@" >/dev/null 2>&1 || c=$?; echo "$c"; }
until_true() { i=0; until "$@" >/dev/null 2>&1; do i=$((i + 1)); [ $i -lt 800 ] || fail "never came true: $*"; sleep 0.05; done; }

# api METHOD PATH [JSON]: a request as the tool's library makes it; the answer's body, and its status in $WORK/status.
api() {
  $CURL -sS --unix-socket "$SOCKET" -X "$1" ${3:+-H "Content-Type: application/json" -d "$3"} -o "$WORK/body" -w '%{http_code}' "http://docker/v1.44$2" >"$WORK/status"
  cat "$WORK/body"
}
# ok STATUS METHOD PATH [JSON]: the same, and it must answer with that status.
ok() {
  wanted=$1
  shift
  api "$@"
  [ "$(cat "$WORK/status")" = "$wanted" ] || fail "$1 $2: status $(cat "$WORK/status"), wanted $wanted: $(cat "$WORK/body")"
}
# text NAME STATUS METHOD PATH [JSON]: the same, and of the answer the first text of that name.
text() {
  name=$1
  shift
  ok "$@" >/dev/null
  grep -o "\"$name\":\"[^\"]*\"" "$WORK/body" | head -n 1 | cut -d '"' -f 4
}
