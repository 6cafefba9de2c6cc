#!/bin/sh
# What people see who build with buildx where BuildKit's image can't be had, and what works without it all the same.
. "$(dirname "$0")/buildx.sh"
cd "$WORK/app"
printf 'FROM %s\nRUN true\n' "$IMAGE" >Dockerfile
printf 'services: {app: {build: .}}\n' >compose.yaml
before=$(there)

step "buildx finds that BuildKit must come in a container"
has "$(d buildx version)" buildx
has "$(d buildx ls)" docker-container
like "$(d buildx inspect)" 'Driver: +docker-container'
like "$(d buildx inspect)" 'Status: +inactive'

step "a build names the image that it needs"
kit=moby/buildkit:buildx-stable-1
refuses "$kit" "$DOCKER" buildx build .
refuses "$kit" "$DOCKER" build -t made .
printf 'target "default" {\n  context = "."\n}\n' >docker-bake.hcl
refuses "$kit" "$DOCKER" buildx bake
for bake in true false; do
  refuses "$kit" env COMPOSE_BAKE=$bake "$DOCKER" compose build
  refuses "$kit" env COMPOSE_BAKE=$bake "$DOCKER" compose up
done
refuses "$kit" "$DOCKER" buildx create --name box --driver docker-container --bootstrap
d buildx rm box >/dev/null 2>&1

step "Compose alone goes the same way"
mkdir "$WORK/alone"
ln -s "$PLUGINS/docker-compose" "$WORK/alone/docker-compose"
ln -sfn "$WORK/alone" "$HOME/.docker/cli-plugins"
refuses "$kit" "$DOCKER" compose build
ln -sfn "$PLUGINS" "$HOME/.docker/cli-plugins"

step "the builder before BuildKit says the way out"
refuses "docker buildx build --load" env DOCKER_BUILDKIT=0 "$DOCKER" build .

step "nothing to tidy up"
refuses buildx_buildkit_default "$DOCKER" buildx du
refuses buildx_buildkit_default "$DOCKER" buildx prune -f
d buildx stop

step "a builder elsewhere does not touch the engine"
d buildx create --name elsewhere --driver remote tcp://127.0.0.1:1 >/dev/null
has "$(d buildx ls)" tcp://127.0.0.1:1
d buildx rm elsewhere >/dev/null 2>&1
refuses 'additional instances of driver "docker"' "$DOCKER" buildx create --driver docker
eq "$(there)" "$before"

step "images in a registry"
serve_registry
here() { $INSIDE "$DOCKER" "$@"; }
d tag "$IMAGE" $address/app:1
d push -q $address/app:1 >/dev/null
like "$(here buildx imagetools inspect $address/app:1)" 'MediaType: +application/vnd'
like "$(here buildx imagetools inspect --format '{{json .Image}}' $address/app:1)" '"os": *"linux"'
here buildx imagetools create -t $address/app:2 $address/app:1 >/dev/null 2>&1
d rmi $address/app:1 >/dev/null
d pull -q $address/app:2 >/dev/null
eq "$(d run --rm $address/app:2 echo pulled)" pulled
refuses "$address/app:3: not found" $INSIDE "$DOCKER" buildx imagetools inspect $address/app:3
d rmi $address/app:2 >/dev/null
eq "$(there)" "$before"
echo "- done"
