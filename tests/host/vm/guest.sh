# The cases on pure cgroup v2: launch, limits, OOM, kill, freeze, stats, a nested host.

start

limit() { eq "$(d run --rm $1 base cat /sys/fs/cgroup/$2)" "$3"; }
version() { eq "$(d info --format '{{.CgroupVersion}}')" 2; }
import() { d import /image.tar base:latest; }
launch() { eq "$(d run --rm base echo hello)" hello; }
code() { d run --rm base sh -c 'exit 7'; eq $? 7; }
oom() {
  d run --name oom --memory 20m --memory-swap 20m base sh -c 'head -c 200000000 /dev/zero | tail'
  eq "$(d inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' oom)" "true 137" && d rm oom
}
sleeper() { d run -d --name sleeper base sleep 100000; }
path() { find /sys/fs/cgroup/droste -type d -name "$(d inspect -f '{{.Id}}' "$1")"; }
freeze() {
  d pause sleeper && eq "$(grep frozen "$(path sleeper)/cgroup.events")" "frozen 1" &&
    d unpause sleeper && eq "$(grep frozen "$(path sleeper)/cgroup.events")" "frozen 0"
}
stats() { d stats --no-stream --format '{{.Name}} {{.PIDs}}' sleeper | grep -q 'sleeper 1'; }
update() { d update --memory 50m --memory-swap 50m sleeper && eq "$(cat "$(path sleeper)/memory.max")" 52428800; }
executed() { eq "$(d exec sleeper echo in)" in; }
kill_() { d kill sleeper && eq "$(d wait sleeper)" 137 && d rm sleeper; }
device() { ! d run --rm base sh -c 'mknod /tmp/console c 4 64 && : < /tmp/console' && eq "$(d run --rm base sh -c 'head -c 3 /dev/zero | wc -c')" 3; }
bridge() {
  d run -d --name web -p 8080:80 base sh -c 'nc -ll -p 80 -e echo served & wait'
  tries=0
  until [ "$(nc 127.0.0.1 8080 </dev/null 2>/dev/null)" = served ]; do tries=$((tries + 1)); [ $tries -lt 100 ] || return 1; sleep 0.1; done
  d rm -f web
}

# The kernel's own server, told by hand what rpc.mountd would answer: who 127.0.0.1 is, what is exported, and where its
# root is. It knows version 4 alone, which needs no port mapper.
serve_nfs() {
  mkdir -p /export /var/lib/nfs/v4recovery && echo served >/export/file
  modprobe nfsd && mount -t nfsd nfsd /proc/fs/nfsd || return 1
  until=2147483647
  echo "nfsd 127.0.0.1 $until here" >/proc/net/rpc/auth.unix.ip/channel
  # Flags of linux/nfsd/export.h: NFSEXP_FSID, _NOSUBTREECHECK, _ASYNC and _INSECURE_PORT.
  echo "here /export $until $((0x2412)) 65534 65534 0" >/proc/net/rpc/nfsd.export/channel
  echo "here 1 \\x00000000 $until /export" >/proc/net/rpc/nfsd.fh/channel
  echo "-2 -3 +4" >/proc/fs/nfsd/versions
  echo 2 >/proc/fs/nfsd/threads && echo Y >/proc/fs/nfsd/v4_end_grace
}
nfs() {
  serve_nfs && d volume create --opt type=nfs --opt o=addr=localhost,vers=4,rw --opt device=:/ far &&
    eq "$(d run --rm -v far:/far base sh -c 'cat /far/file && echo back >/far/answer && grep -c " /far nfs" /proc/mounts')" "served
1" && eq "$(cat /export/answer)" back && d volume rm far
}

# Beside each other below one link of the machine's: they reach each other by name and address.
beside() {
  d network create -d "$@" -o parent=below --subnet 10.77.0.0/24 beside &&
    d run -d --name one --network beside --ip 10.77.0.9 base sleep 100000 &&
    d run --rm --network beside base ping -c 1 -w 5 one | grep -q 'from 10.77.0.9'
  code=$?
  d rm -f one && d network rm beside && return $code
}

host() {
  d run -d --name host --memory 200m -v /var/run/docker.sock:/var/run/docker.sock base sleep 100000 &&
    eq "$(d exec host docker run --rm base echo nested)" nested &&
    d exec host docker run -d --name inner --memory 64m base sleep 100000
}
below() {
  inner=$(d exec host docker inspect -f '{{.Id}}' inner)
  outer=$(d inspect -f '{{.Id}}' host)
  find /sys/fs/cgroup/droste -type d -path "*$outer*$inner" | grep -q . && eq "$(cat "$(find /sys/fs/cgroup/droste -type d -name "$inner")/memory.max")" 67108864
}
bounded() {
  # Without a limit of its own, the nested container ends at its host's.
  d exec host docker run --rm base sh -c 'head -c 400000000 /dev/zero | tail'
  eq $? 137 && eq "$(d inspect -f '{{.State.Running}}' host)" true
}
seen() { eq "$(d exec host cat /sys/fs/cgroup/memory.max)" 209715200; }
killed() {
  outer=$(d inspect -f '{{.Id}}' host)
  kill -9 "$(d inspect -f '{{.State.Pid}}' host)"
  tries=0
  while find /sys/fs/cgroup/droste -type d -path "*$outer*" 2>/dev/null | grep -q .; do tries=$((tries + 1)); [ $tries -lt 200 ] || return 1; sleep 0.1; done
  d rm host && eq "$(d ps -aq)" ""
}

case_ "cgroup version" version
case_ "import" import
case_ "launch" launch
case_ "exit code" code
case_ "memory limit" limit "--memory 64m" memory.max 67108864
case_ "swap limit" limit "--memory 64m --memory-swap 100m" memory.swap.max 37748736
case_ "pids limit" limit "--pids-limit 17" pids.max 17
case_ "cpu limit" limit "--cpus 0.5" cpu.max "50000 100000"
case_ "cpu shares" limit "--cpu-shares 2048" cpu.weight 174
case_ "cpuset" limit "--cpuset-cpus 1" cpuset.cpus 1
case_ "out of memory" oom
case_ "a sleeper" sleeper
case_ "freeze" freeze
case_ "stats" stats
case_ "update" update
case_ "exec" executed
case_ "kill" kill_
case_ "devices" device
case_ "bridge and port" bridge
ip link add below type dummy && ip link set below up
case_ "macvlan" beside macvlan
case_ "ipvlan" beside ipvlan
case_ "ipvlan of layer 3" beside ipvlan -o ipvlan_mode=l3
case_ "a volume of NFS" nfs
case_ "a nested host" host
case_ "nested group below the host's" below
case_ "the host's limit holds for the sum" bounded
case_ "the host sees its limit" seen
case_ "kill -9 leaves nothing" killed
echo "all done"
