# AppArmor: containers are in the default profile or in the one that they name, and nothing on a host leaves the host's.

# Profiles of somebody else's: `small` and `other` let everything be done that these cases do.
for name in small other; do
  echo "profile $name flags=(attach_disconnected,mediate_deleted) { file, network, unix, capability, signal, ptrace, mount, umount, deny /forbidden w, }"
done >/profiles
apparmor_parser --replace --skip-cache --quiet /profiles || { echo "not ok apparmor_parser loads profiles"; exit; }
mkdir -p /etc/droste && echo '{"runtimes": {"runc": {"path": "/bin/runc"}}}' >/etc/droste/daemon.json
start

default=droste-default
attribute=apparmor/current
label="cat /proc/self/attr/$attribute"
greedy="--privileged --security-opt apparmor=unconfined --cap-add ALL"
loaded() { grep -q "^$1 (enforce)" /sys/kernel/security/apparmor/profiles; }

import() { d import /image.tar base:latest; }
ready() { loaded $default && d info --format '{{.SecurityOptions}} {{.Warnings}}' | grep 'name=apparmor ' | grep -vi 'no apparmor'; }
given() { eq "$(d run --rm $1 base $label)" "$2"; }
# With the capability, which is not enough.
denied() { ! d run --rm --cap-add SYS_ADMIN $1 base mount -t tmpfs none /tmp && d run --rm --cap-add SYS_ADMIN --security-opt apparmor=unconfined base mount -t tmpfs none /tmp; }
# Where nothing is masked: the kernel's files, and what of them stays a container's affair.
files() {
  d run --rm --security-opt systempaths=unconfined base sh -c 'cd /proc/sys/kernel
    (echo x >domainname) 2>/dev/null && exit 1; (echo h >/proc/sysrq-trigger) 2>/dev/null && exit 2
    (echo 1 >/proc/sys/net/ipv4/ip_forward) 2>/dev/null && exit 3; (echo 1 >/proc/irq/default_smp_affinity) 2>/dev/null && exit 4
    cat shm_rmid_forced >/tmp/was && cat /tmp/was >shm_rmid_forced && echo 5 >/proc/self/oom_score_adj && mkdir /tmp/x && ls /sys/kernel >/dev/null'
}
unknown() {
  out=$(d run --name lost --security-opt apparmor=nowhere base true 2>&1) && return 1
  case $out in *'AppArmor profile "nowhere" is not loaded'*) d rm lost ;; *) echo "$out"; return 1 ;; esac
}
inspected() { eq "$(droste $2 inspect -f '{{.AppArmorProfile}}' "$1")" "$3"; }
life() {
  d create --name one base $forever && inspected one "" "" && d start one && inspected one "" $default &&
    eq "$(d exec one $label)" "$default (enforce)" && eq "$(d exec --privileged one $label)" "$default (enforce)" &&
    d exec one sh -c 'sleep 100 & kill $! && ! wait $!' && d kill -s USR1 one && d rm -f one
}

# However it is asked for.
held() {
  pressed "$1" "$2" || return 1
  for asks in "" "--privileged" "--security-opt apparmor=other" "--security-opt apparmor=nowhere"; do
    eq "$asks: $(at "$1" run --rm $asks base $label)" "$asks: $2" || return 1
  done
  at "$1" create --name greedy $greedy base $forever && at "$1" start greedy && inspected greedy "--at $1" "${2% (*}" && at "$1" rm -f greedy
}
host() { d run -d --name "$@" $socket base $forever; }
below() { at "$1" run -d --name inner $greedy $socket base $forever && held "$1/inner" "$2"; }
told() { at plain create --name greedy --security-opt apparmor=unconfined base true 2>&1 | grep "stays in its own profile $default" && at plain rm greedy; }
# A host sees its containers' processes, and may end them.
signalled() {
  for host in plain tight open; do
    at $host run -d --name mine base $forever && d exec $host kill -9 "$(at $host inspect -f '{{.State.Pid}}' mine)" && eq "$(at $host wait mine)" 137 && at $host rm mine || return 1
  done
}
# A host that nothing confines: its containers are as on the machine.
open() {
  host open --privileged && eq "$(d exec open $label)" unconfined && eq "$(at open run --rm base $label)" "$default (enforce)" &&
    eq "$(at open run --rm --privileged base $label)" unconfined && eq "$(at open run --rm --security-opt apparmor=small base $label)" "small (enforce)"
}
# An open host whose first process changes its profile by itself.
changed() {
  d run -d --name changed --privileged $socket base sh -c "until [ -e /now ]; do sleep 0.1; done; echo -n 'exec small' >/proc/self/attr/apparmor/exec; exec $forever" &&
    eq "$(at changed run --rm base $label)" "$default (enforce)" && d exec changed touch /now || return 1
  until [ "$(d exec changed cat /proc/1/attr/$attribute)" = "small (enforce)" ]; do sleep 0.1; done
  held changed "small (enforce)" && d rm -f changed
}
killed() {
  kill -9 $daemon
  wait $daemon
  serve && held tight "small (enforce)" && pressed plain/inner "$default (enforce)" && inspected tight "" small
}
# As the distribution's own tools do with profiles that they do not know.
lost() {
  echo "profile $default {}" | apparmor_parser --remove --quiet && ! loaded $default && given "" "$default (enforce)" && loaded $default
}
without() {
  d rm -f plain tight open && kill $daemon
  wait $daemon
  echo "profile $default {}" | apparmor_parser --remove --quiet && mv /bin/apparmor_parser /bin/hidden && serve || return 1
  given "" unconfined && given "--security-opt apparmor=small" "small (enforce)" && grep -q 'apparmor_parser is missing: install the package apparmor' /daemon.log &&
    d info --format '{{.Warnings}}' | grep -q 'No AppArmor profile'
}

case_ "import" import
case_ "the daemon has loaded its profile and says so" ready
case_ "the default" given "" "$default (enforce)"
case_ "it denies mounts" denied
case_ "it denies the kernel's files" files
case_ "privileged is unconfined" given "--privileged" unconfined
case_ "unconfined" given "--security-opt apparmor=unconfined" unconfined
case_ "another by name" given "--security-opt apparmor=small" "small (enforce)"
case_ "with no-new-privileges" given "--security-opt no-new-privileges" "$default (enforce)"
case_ "with an init" given "--init" "$default (enforce)"
case_ "with another runtime" given "--runtime runc" "$default (enforce)"
case_ "one that is not loaded" unknown
case_ "exec and signals" life
case_ "a host in the default" host plain
case_ "is a floor" held plain "$default (enforce)"
case_ "which is told" told
case_ "also on level 2" below plain "$default (enforce)"
case_ "a host in a profile of its own" host tight --security-opt apparmor=small
case_ "is a floor, too" held tight "small (enforce)"
case_ "and on level 2" below tight "small (enforce)"
case_ "a host that nothing confines" open
case_ "a host that has changed its profile itself" changed
case_ "hosts signal what is on them" signalled
case_ "after kill -9" killed
case_ "a profile that was removed" lost
case_ "without a compiler" without
echo "all done"
