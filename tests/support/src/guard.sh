# Runs one engine for one test process in PID, mount and network namespaces of its own.
#
#   bash guard.sh outer DIR DROSTE [OPTION…]
#
# Commands come on standard input, one a line, each answered with one line: start, stop (SIGTERM),
# kill (SIGKILL). The end of standard input, however the test process ended, ends everything: the
# namespace's first process exits, and the kernel kills all that the engine left running in it.
set -u
role=$1 dir=$2 droste=$3
shift 3

inner() {
  busybox ip link set lo up
  local daemon= command
  while read -r command; do
    case $command in
    start)
      "$droste" daemon -H "unix://$dir/docker.sock" --data-root "$dir/data" --exec-root "$dir/run" \
        --pidfile "$dir/pid" "$@" >>"$dir/log" 2>&1 </dev/null &
      daemon=$!
      ;;
    stop) kill "$daemon"; wait "$daemon" 2>/dev/null ;;
    kill) kill -9 "$daemon"; wait "$daemon" 2>/dev/null ;;
    esac
    echo "$command"
  done
}

outer() {
  unshare --pid --fork --kill-child --net --mount --mount-proc \
    bash "$0" inner "$dir" "$droste" "$@"
  local id group parent=
  while [ $# -gt 0 ]; do
    if [ "$1" = --cgroup-parent ]; then parent=$2; fi
    shift
  done
  # One of its own goes as a whole.
  if [ -n "$parent" ]; then
    for group in /sys/fs/cgroup/"$parent" /sys/fs/cgroup/*/"$parent"; do
      [ -d "$group" ] && find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
    done
  fi
  for id in "$dir"/data/containers/*; do
    [ -d "$id" ] || continue
    for group in /sys/fs/cgroup/droste/"${id##*/}" /sys/fs/cgroup/*/droste/"${id##*/}"; do
      [ -d "$group" ] && find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
    done
  done
  rm -rf "$dir"
}

"$role" "$@"
