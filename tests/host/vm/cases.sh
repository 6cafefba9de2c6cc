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

# For hosts.
socket="-v /var/run/docker.sock:/var/run/docker.sock"
forever="sleep 100000"
at() { droste --at "$@"; }
# What is greedy, with $greedy, on a host whose path is given, has the label that is given, however it comes to run: the
# kernel tells it in the file $attribute.
pressed() {
  at "$1" run -d --name greedy $greedy base $forever || return 1
  for way in start update restart stop; do
    case $way in
    update) at "$1" update --memory 300m --memory-swap 300m greedy ;;
    restart) at "$1" restart -t 0 greedy ;;
    stop) at "$1" stop -t 0 greedy && at "$1" start greedy ;;
    esac >/dev/null || return 1
    eq "$way: $(at "$1" exec greedy cat "/proc/1/attr/$attribute")" "$way: $2" &&
      eq "$way, exec: $(at "$1" exec greedy cat "/proc/self/attr/$attribute")" "$way, exec: $2" &&
      eq "$way, exec --privileged: $(at "$1" exec --privileged greedy cat "/proc/self/attr/$attribute")" "$way, exec --privileged: $2" || return 1
  done
  at "$1" rm -f greedy
}

