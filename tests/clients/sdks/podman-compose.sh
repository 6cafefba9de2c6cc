# A project's day with the unmodified podman-compose, for which droste is the podman. Given: IMAGE (busybox), DROSTE (the
# program), SCRATCH, DOCKER_HOST or none.
set -ex
work=$SCRATCH/project bin=$SCRATCH/bin
mkdir -p $work/page $bin
ln -s $DROSTE $bin/podman
export PATH=$bin:$PATH
cd $work
echo "of the project" >page/line
cat >compose.yaml <<PROJECT
services:
  web:
    image: $IMAGE
    entrypoint: ["sh", "-c"]
    command: ["cat /page/line >>/www/index.html; exec httpd -f -p 80 -h /www"]
    volumes: ["./page:/page:ro", "data:/www"]
    ports: ["8085:80"]
    healthcheck: {test: ["CMD", "wget", "-qO-", "http://127.0.0.1/"], interval: 1s}
    networks: {back: {aliases: [pages]}}
  client:
    image: $IMAGE
    command: ["sh", "-c", "echo \$\$WORD; exec sleep 1000"]
    environment: {WORD: said}
    depends_on: {web: {condition: service_healthy}}
    networks: [back]
    stop_grace_period: 0s
networks: {back: {}}
volumes: {data: {}}
PROJECT
compose() { python3 -m podman_compose -p day "$@"; }
ask() { podman "$@" </dev/null; }

compose up -d
# Its dependency was healthy before it was started.
test "$(ask inspect -f '{{.State.Health.Status}}' day_web_1)" = healthy
test "$(ask inspect -f '{{json .Config.Healthcheck.Test}}' day_web_1)" = '["CMD","wget","-qO-","http://127.0.0.1/"]'
test "$(wget -qO- http://127.0.0.1:8085/)" = "of the project"
for name in web pages; do test "$(compose exec -T client wget -qO- http://$name/)" = "of the project"; done
compose exec -T client sh -c 'exit 7' && exit 1 || test $? -eq 7
compose logs client | grep said
compose ps | grep day_client_1
test "$(compose run --rm -T client sh -c 'echo once $WORD' </dev/null | tail -n 1)" = "once said"
# Up again leaves what has not changed, and makes anew what has.
web=$(ask ps -q --no-trunc --filter name=day_web_1)
compose up -d
test "$(ask ps -q --no-trunc --filter name=day_web_1)" = "$web"
sed -i 's/WORD: said/WORD: changed/' compose.yaml
compose up -d
compose logs client | grep changed
test "$(ask ps -q --no-trunc --filter name=day_web_1)" = "$web"
compose stop -t 0 client
compose start client

# What scripts for podman say.
test "$(ask --version)" = "podman version 4.6.0"
for kind in "container day_web_1" "image $IMAGE" "network day_back" "volume day_data"; do
  ask ${kind% *} exists ${kind#* }
  ask ${kind% *} exists nothing && exit 1 || test $? -eq 1
done
test "$(ask ps --filter name=web --format '{{ index .Labels "com.docker.compose.service" }}')" = web
test "$(ask ps --filter name=web --format '{{.Labels}}' | grep -c '^map\[')" = 1
test "$(ask wait --condition=running day_web_1)" = -1
ask wait --condition=ready day_web_1 2>&1 | grep "wait for one of"
ask wait --condition=healthy day_client_1 2>&1 | grep "has no health check"
ask pod create --name=shared 2>&1 | grep in-pod
ask rm --ignore nothing

compose down -v -t 0
test -z "$(ask ps -aq --filter label=io.podman.compose.project=day)"
test -z "$(ask volume ls --noheading --filter label=io.podman.compose.project=day)"
test -z "$(ask network ls --noheading --filter label=io.podman.compose.project=day)"
# By any other name it is Docker's client.
test "$($DROSTE --version | cut -d ' ' -f 1)" = Docker
$DROSTE pod exists x 2>&1 | grep "unknown command"
echo "the day is done"
