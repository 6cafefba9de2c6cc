# Hosts at their limits of disk, on a file system of a $kind that has project quotas: a write fails, and nobody is ended for it.

data=/data
explain() {
  grep -v INFO /daemon.log | tail -n 5 | sed 's/^/# /'
  d inspect -f '# {{json .State}}' host
}
mkdir -p /data
mount -t "$kind" -o loop,prjquota /data.img /data || { echo "not ok $kind with project quotas can be mounted"; exit; }
start

limit=12582912
used() { d host inspect -f "{{.Limits.disk.Used}}" "$1"; }
# The most that a write of 40 MiB may have got to, and what it must say.
stopped() {
  case $1 in *quota*exceeded* | *[Nn]"o space left"*) ;; *) echo "not stopped: $1"; return 1 ;; esac
}
known() { grep -q "project quotas" /daemon.log; }
host() {
  d import /image.tar base:latest && d run -d --name host --label droste.limit.disk=$limit -v /var/run/docker.sock:/var/run/docker.sock base sleep 100000 &&
    d run -d --name beside base sleep 100000 && tries=0
  # The engine tells the kernel within a second or so, and at once when somebody asks.
  used host
}
write() { echo "dd if=/dev/zero of=$1 bs=64k count=640"; }
layer() {
  stopped "$(d --at host run --name writer base sh -c "$(write /file)" 2>&1)" &&
    eq "$(d --at host inspect -f '{{.State.ExitCode}} {{.State.Error}}' writer)" "1 " &&
    [ "$(used host)" -le $limit ]
}
together() {
  said=$(d --at host run --rm base sh -c "$(write /file)" 2>&1)
  # XFS lets a writer have the last byte: there is none left to begin with.
  case $said in *"limit of disk is reached"*) ;; *) stopped "$said" ;; esac && [ "$(used host)" -le $limit ]
}
freed() { d --at host rm writer && d --at host run --rm base sh -c 'dd if=/dev/zero of=/file bs=64k count=64'; }
volume() {
  stopped "$(d --at host run --rm -v vol:/v base sh -c "$(write /v/file)" 2>&1)" && d --at host volume rm vol
}
own() {
  stopped "$(d exec host sh -c "$(write /own)" 2>&1)" && eq "$(d inspect -f '{{.State.Running}}' host)" true && d exec host rm /own
}
moved() { d --at host run --rm base sh -c 'mkdir /a /b && echo 1 >/a/file && mv /a /c && mv /etc/passwd /b/ && mv /b /etc/ && ln /etc/b/passwd /hard'; }
below() {
  d --at host run -d --name inner -v /var/run/docker.sock:/var/run/docker.sock base sleep 100000 && used host/inner >/dev/null &&
    stopped "$(d --at host/inner run --rm base sh -c "$(write /file)" 2>&1)" && [ "$(used host)" -le $limit ] && d --at host rm -f inner
}
raised() {
  d host limits host disk=32m >/dev/null && d --at host run --rm base sh -c 'dd if=/dev/zero of=/file bs=64k count=320'
}
others() { d exec beside sh -c 'dd if=/dev/zero of=/file bs=64k count=320 && rm /file'; }
stranger() {
  # A file of the host's project that is not the host's keeps it from writing for a moment only.
  d host limits host disk=$limit >/dev/null
  foreign=/data/containers/$(d inspect -f '{{.Id}}' host)/work/foreign
  dd if=/dev/zero of="$foreign" bs=1M count=14 2>/dev/null
  tries=0
  until d --at host run --rm base sh -c 'dd if=/dev/zero of=/file bs=64k count=64'; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || return 1
    sleep 0.2
  done
  rm "$foreign"
}
restarted() {
  kill -9 $daemon
  wait $daemon
  serve && used host >/dev/null && layer && d --at host rm writer
}
removed() { d rm -f host beside && eq "$(d ps -aq)" ""; }

case_ "quotas are found" known
case_ "a host with a limit" host
case_ "a write in its container is stopped" layer
case_ "and one in another container" together
case_ "what is removed makes room" freed
case_ "a write to its volume is stopped" volume
case_ "its own write is stopped" own
case_ "files are moved as ever" moved
case_ "a host below it is stopped by its limit" below
case_ "a raised limit holds at once" raised
case_ "others are not touched" others
case_ "a project that somebody else fills" stranger
case_ "after kill -9" restarted
case_ "removal" removed
echo "all done"
