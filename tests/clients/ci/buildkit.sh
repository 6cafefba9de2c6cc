#!/bin/sh
# What people do who build with buildx, in the container that it starts for BuildKit. Given besides: BUILDKIT, a name
# of BuildKit's image.
. "$(dirname "$0")/buildx.sh"
cd "$WORK/app"
serve_registry
d tag "$IMAGE" $address/base
d push -q $address/base >/dev/null
d rmi $address/base >/dev/null
cp "$(which busybox)" busybox
printf 'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "mkdir", "/made"]\nENTRYPOINT ["/bin/busybox", "ls"]\n' >Dockerfile
before=$(there)

step "a builder with settings of its own"
echo 'debug = true' >"$WORK/buildkitd.toml"
d buildx create --name "$NAME" --driver docker-container --driver-opt "image=$BUILDKIT,default-load=true,network=host" \
  --buildkitd-config "$WORK/buildkitd.toml" --bootstrap >/dev/null 2>&1
box=buildx_buildkit_${NAME}0
eq "$(d inspect -f '{{.State.Running}} {{.HostConfig.Privileged}} {{.HostConfig.NetworkMode}}' $box)" "true true host"
eq "$(d exec $box cat /etc/buildkit/buildkitd.toml)" "debug = true"
eq "$(d volume ls -q -f name=$box)" "${box}_state"
like "$(d buildx ls)" ' running '
like "$(d buildx inspect "$NAME")" 'Status: +running'

step "docker build with it"
export BUILDX_BUILDER="$NAME"
d build -q -t "$NAME-first" . >/dev/null
has "$(d run --rm "$NAME-first" /)" made
d buildx du | grep -q RECLAIMABLE || fail "no cache"

step "from a registry and to it"
printf 'FROM %s/base\nARG WORD\nRUN echo $WORD >/said\nCMD ["cat", "/said"]\n' $address >from
d buildx build -q -f from --build-arg WORD=built -t $address/pushed --push . >/dev/null
eq "$(d run --rm --pull always -q $address/pushed)" built
d rmi $address/pushed >/dev/null
printf 'FROM %s/base\nRUN exit 7\n' $address >fails
refuses "exit code: 7" "$DOCKER" build -f fails .

step "other ways to ask for it"
printf 'target "default" {\n  context = "."\n  tags = ["%s-baked"]\n}\n' "$NAME" >docker-bake.hcl
d buildx bake >/dev/null 2>&1
has "$(d run --rm "$NAME-baked" /)" made
printf 'services:\n  app:\n    build: .\n    image: %s-composed\n    command: /\n' "$NAME" >compose.yaml
for bake in true false; do
  COMPOSE_BAKE=$bake d compose build -q 2>/dev/null
  has "$(d run --rm "$NAME-composed" /)" made
  d rmi -f "$NAME-composed" >/dev/null
done
has "$(d compose run --rm -q app 2>/dev/null)" made
d compose down --rmi all >/dev/null 2>&1
d buildx build -q -o "$WORK/out" . >/dev/null
[ -d "$WORK/out/made" ] || fail "no files came"

step "a builder that stops and starts"
d buildx stop
eq "$(d inspect -f '{{.State.Status}}' $box)" exited
d build -q -t "$NAME-first" . >/dev/null
d buildx prune -af >/dev/null
lacks "$(d buildx history ls 2>&1)" ERROR

step "nothing is left"
d buildx rm "$NAME" >/dev/null 2>&1
d rmi "$NAME-first" "$NAME-baked" >/dev/null
eq "$(there)" "$before"

step "the builder that is there without being made"
unset BUILDX_BUILDER
d build -t "$NAME-lost" . >"$WORK/log" 2>&1
has "$(cat "$WORK/log")" "No output specified"
eq "$(d images -q "$NAME-lost")" ""
d build -q -t "$NAME-kept" --load . >/dev/null
has "$(d run --rm "$NAME-kept" /)" made
d rmi "$NAME-kept" >/dev/null
d buildx rm default >/dev/null 2>&1
eq "$(there)" "$before"
echo "- done"
