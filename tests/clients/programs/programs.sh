#!/bin/sh
# Real programs under `docker compose`. Given what compose/project.sh is given.
set -eu
export PROJECT PORT
cd "$FILES"
fail() { echo "failed after '$step': $*" >&2; c ps -a >&2 || :; c logs --tail 20 >&2 || :; exit 1; }
eq() { [ "$1" = "$2" ] || fail "expected: $2
     got: $1"; }
step() { step=$*; echo "- $step"; }
c() { "$DOCKER" compose --progress quiet --ansi never -p "$PROJECT" "$@"; }
page() { $INSIDE busybox wget -qO- "http://$1:$PORT/$2"; }
sql() { c exec -T client sh -c 'exec /usr/lib/postgresql/*/bin/psql -qtA -h sql -U postgres -c "$1"' sh "$1"; }

step up
c up -d --wait

step "nginx behind a published port"
eq "$(page 127.0.0.1 static)" "from nginx"
eq "$(page '[::1]' static)" "from nginx"
seen=
i=0
while [ $i -lt 200 ]; do
  i=$((i + 1))
  name=$(page 127.0.0.1 name)
  case $seen in *"$name"*) ;; *) seen="$seen $name" ;; esac
  [ "$(echo "$seen" | wc -w)" -lt 2 ] || break
done
eq "$(echo "$seen" | wc -w | tr -d ' ')" 2

step "PostgreSQL and its client"
sql 'create table numbers as select generate_series(1, 10000) as n'
eq "$(sql 'select sum(n) from numbers')" 50005000

step "redis and its replicas"
eq "$(c exec -T client nslookup reader 127.0.0.11 | grep -c '^Address:.*\.')" 3
eq "$(c exec -T replica redis-cli -h primary set key value)" OK
eq "$(c exec -T replica redis-cli -h primary wait 2 20000)" 2
for n in 1 2; do eq "$(c exec -T --index $n replica redis-cli get key)" value; done
eq "$(c exec -T primary redis-cli -h reader get key)" value

step "the volume outlives its container"
c up -d --force-recreate --wait --no-deps postgres
eq "$(sql 'select count(*) from numbers')" 10000

step down
c down -v
echo "- done"
