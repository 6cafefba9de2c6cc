# What the guests' scripts begin with: one line for each case, the client, and a daemon with its data in $data.

case_() {
  name=$1
  shift
  # In this shell: what starts the daemon anew says so.
  if "$@" >/said 2>&1; then echo "ok $name"; else
    echo "not ok $name: $(cat /said)"
    explain
  fi
}
eq() { [ "$1" = "$2" ] || { echo "expected $2, got $1"; return 1; }; }
explain() { tail -n 5 /daemon.log | sed 's/^/# /'; }
d() { droste "$@"; }

export DOCKER_HOST=unix:///run/droste.sock
data=/var/lib/droste
# Starts the daemon and waits until it answers.
serve() {
  droste daemon -H "$DOCKER_HOST" --data-root "$data" --exec-root /run/droste --pidfile /run/droste.pid >/daemon.log 2>&1 &
  daemon=$!
  tries=0
  until d version >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] && kill -0 $daemon 2>/dev/null || return 1
    sleep 0.2
  done
}
# The first time, without which there is no case.
start() {
  serve || { echo "not ok the daemon starts"; cat /daemon.log; exit; }
  echo "ok the daemon starts"
}

