#!/bin/sh
# What kind calls to make a cluster of two nodes, reach it and remove it. A node's image is busybox here, whose first
# process says what a node's systemd says once it is up, so that all is as in the original but Kubernetes itself.
. "$(dirname "$0")/common.sh"

cluster=$NAME-cluster
network=$NAME-kind
key=io.x-k8s.kind

step "the engine"
like "$(d info --format '{{json .}}')" '"CgroupVersion":"[12]"'
has "$(d info --format '{{json .SecurityOptions}}')" seccomp
eq "$(d ps -a --filter "label=$key.cluster=$cluster" --format "{{.Names}}")" ""

step "a network"
eq "$(d network ls --filter="name=^$network\$" --format '{{.ID}}')" ""
mtu=$(d network inspect bridge -f '{{ index .Options "com.docker.network.driver.mtu" }}')
subnet=fc00:f853:$(echo "$NAME" | md5sum | cut -c 1-3 | sed 's,^,f,'):e793::/64
d network create -d=bridge -o com.docker.network.bridge.enable_ip_masquerade=true -o com.docker.network.driver.mtu="${mtu:-1500}" --ipv6 --subnet "$subnet" "$network" >/dev/null
eq "$(d network ls --filter="name=^$network\$" --format '{{.ID}}' --no-trunc)" "$(d network inspect "$network" -f '{{.Id}}')"
has "$(d network inspect -f '{{range (index (index . "IPAM") "Config")}}{{index . "Subnet"}} {{end}}' "$network")" "$subnet"
[ -d /lib/modules ] || mkdir -p /lib/modules

# node NAME ROLE [OPTION…]: the options as kind gives them.
init='mkdir -p /kind; echo v1.34.0 >/kind/version; echo "Reached target multi-user.target - Multi-User System."; trap "exit 0" TERM; while :; do sleep 1000 & wait; done'
node() {
  name=$1 role=$2
  shift 2
  d run --name "$name" --hostname "$name" --label "$key.role=$role" --privileged --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
    --tmpfs /tmp --tmpfs /run --volume /var --volume /lib/modules:/lib/modules:ro -e KIND_EXPERIMENTAL_CONTAINERD_SNAPSHOTTER --detach --tty \
    --label "$key.cluster=$cluster" --net "$network" --restart=on-failure:1 --init=false --cgroupns=private "$@" "$IMAGE" sh -c "$init" >/dev/null
  d logs -f "$name" >"$WORK/log" 2>&1 &
  follower=$!
  until_true grep -q 'Reached target .*Multi-User System' "$WORK/log"
  kill "$follower"
}

step "nodes"
port=$($INSIDE busybox awk 'BEGIN { srand(); print 20000 + int(rand() * 10000) }')
plane=$cluster-control-plane worker=$cluster-worker
node "$plane" control-plane --publish="127.0.0.1:$port:6443/TCP" -e KUBECONFIG=/etc/kubernetes/admin.conf
node "$worker" worker
eq "$(d ps -a --filter "label=$key.cluster=$cluster" --format '{{.Names}}' | sort | tr '\n' ' ')" "$plane $worker "
eq "$(d inspect --format "{{ index .Config.Labels \"$key.role\"}}" "$worker")" worker
like "$(d inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}},{{.GlobalIPv6Address}}{{end}}' "$worker")" '^[0-9.]+,fc00:f853:'
eq "$(d inspect --format '{{ with (index (index .NetworkSettings.Ports "6443/tcp") 0) }}{{ printf "%s\t%s" .HostIp .HostPort }}{{ end }}' "$plane")" "127.0.0.1	$port"

step "work in the nodes"
eq "$(d exec --privileged "$plane" cat /kind/version)" v1.34.0
echo "kind: ClusterConfiguration" | d exec --privileged -i "$plane" cp /dev/stdin /kind/kubeadm.conf
eq "$(d exec --privileged "$plane" cat /kind/kubeadm.conf)" "kind: ClusterConfiguration"
for place in /tmp /run; do eq "$(d exec --privileged "$plane" stat -f -c %T "$place")" tmpfs; done
has "$(d exec --privileged "$plane" grep ' /lib/modules ' /proc/mounts)" " ro"
lacks "$(d exec --privileged "$plane" cat /proc/1/cgroup)" "$(d inspect -f '{{.Id}}' "$plane")"
until_true d exec --privileged "$worker" nslookup "$plane" 127.0.0.11

step "images go into the nodes"
d save -o "$WORK/images.tar" "$IMAGE"
d exec --privileged -i "$plane" tar -t <"$WORK/images.tar" | grep -q manifest.json || fail "no archive came"

step "the API server by its published port"
d exec -d --privileged "$plane" sh -c 'mkdir -p /www; echo ok >/www/healthz; exec httpd -f -p 6443 -h /www'
until_true $INSIDE busybox wget -qO- "http://127.0.0.1:$port/healthz"
eq "$($INSIDE busybox wget -qO- "http://127.0.0.1:$port/healthz")" ok

if [ "$CONTAINED" = yes ]; then
  step "the client joins the cluster's network"
  d network connect "$network" "$(hostname)"
  # It reaches the nodes, and they know it by its name.
  address=$(d inspect -f "{{(index .NetworkSettings.Networks \"$network\").IPAddress}}" "$plane")
  eq "$(busybox wget -qO- "http://$address:6443/healthz")" ok
  has "$(d exec --privileged "$worker" nslookup "$(hostname)" 127.0.0.11)" "$(d inspect -f "{{(index .NetworkSettings.Networks \"$network\").IPAddress}}" "$(hostname)")"
  d network disconnect "$network" "$(hostname)"
fi

step "the end"
d rm -f -v "$plane" "$worker" >/dev/null
d network rm "$network" >/dev/null
eq "$(d ps -aq --filter "label=$key.cluster=$cluster")" ""
echo "- done"
