# SELinux, enforcing: whatever label a host has taken, nothing on it has another.

mount -t selinuxfs selinux /sys/fs/selinux && cat /policy >/sys/fs/selinux/load && echo 1 >/sys/fs/selinux/enforce &&
  echo -n user:role:daemon_t:s0 >/proc/self/attr/current || { echo "not ok a policy can be loaded"; exit; }
start

own=user:role:daemon_t:s0
attribute=current
label="cat /proc/self/attr/current"
greedy="--privileged --security-opt label=disable --security-opt label=type:daemon_t --cap-add ALL"

import() { eq "$(cat /proc/$daemon/attr/current)" $own && d import /image.tar base:latest; }
given() { eq "$($1 run --rm $2 base $label)" "$3"; }
# As in a Docker without --selinux-enabled.
ignored() {
  given d "--security-opt label=type:host_t" $own && d create --name one --security-opt label=type:host_t base true &&
    eq "$(d inspect -f '{{.ProcessLabel}}{{.MountLabel}}' one)" "" && d rm one && ! d info --format '{{.SecurityOptions}}' | grep -i selinux
}
# A host of $1, by the client's words, whose first process takes the labels that follow, one after the other.
host() {
  words=$1 host=$2
  shift 2
  $words run -d --name $host $socket base become "$@" || return 1
  until [ "$($words exec $host cat /proc/1/attr/current)" = "user:role:$(echo "$*" | sed 's/.* //'):s0" ]; do sleep 0.1; done
}
held() {
  pressed "$1" "user:role:$2:s0" || return 1
  for asks in "" "--init" "--privileged" "--security-opt no-new-privileges" "--security-opt label=type:daemon_t"; do
    given "at $1" "$asks" "user:role:$2:s0" || return 1
  done
}
# What is on a host can't take the daemon's label itself.
kept() { ! at tight run --rm base sh -c "echo -n $own >/proc/self/attr/exec && exec cat /proc/self/attr/current" && d run --rm base sh -c 'echo -n user:role:host_t:s0 >/proc/self/attr/exec && exec true'; }
# What starts with its host, before that may have taken its own label: at least that of the host above.
again() {
  at tight/inner run -d --name always --restart always base $forever && at tight restart -t 0 inner || return 1
  until [ "$(at tight exec inner cat /proc/1/attr/current)" = user:role:deep_t:s0 ]; do sleep 0.1; done
  until found=$(at tight/inner exec always cat /proc/1/attr/current); do sleep 0.1; done
  case $found in user:role:host_t:s0 | user:role:deep_t:s0) at tight/inner rm -f always ;; *) echo "$found"; return 1 ;; esac
}
# A label that the policy lets a host take, and the daemon not give: nothing runs there, rather than in another.
far() {
  host d far host_t far_t && ! at far run --rm base true && ! at far run --rm --privileged base true && d rm -f far
}
plain() { d run -d --name plain $socket base $forever && pressed plain $own && d rm -f plain; }
killed() {
  kill -9 $daemon
  wait $daemon
  serve && held tight host_t && pressed tight/inner user:role:deep_t:s0
}

case_ "import" import
case_ "a container has the daemon's label" given d "" $own
case_ "labels that are asked for are ignored" ignored
case_ "a host in the daemon's label" plain
case_ "a host that has taken a label" host d tight host_t
case_ "is a floor" held tight host_t
case_ "which nothing leaves" kept
case_ "a host on it, in a label of its own" host "at tight" inner deep_t
case_ "is a floor, too" held tight/inner deep_t
case_ "what starts with its host" again
case_ "a label that can't be given" far
case_ "after kill -9" killed
echo "all done"
