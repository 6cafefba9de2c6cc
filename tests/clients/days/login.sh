# A registry that wants a password: login, push, pull, logout; with the secret in the client's own file, with a helper for
# this registry, and with one for all. $DOCKER is the client, USER and SECRET are what the registry knows.
set -eu
step() { echo "- $*"; }
fail() { echo "$*" >&2; exit 1; }
mkdir "$SCRATCH/bin"
export PATH="$SCRATCH/bin:$PATH" KEPT="$SCRATCH/kept"
cat >"$SCRATCH/bin/docker-credential-kept" <<'HELPER'
#!/bin/sh
# Keeps one secret in a file, and a list of what it was asked.
echo "$1" >>"$KEPT/asked"
case $1 in
store) cat >"$KEPT/secret" ;;
get) if [ -e "$KEPT/secret" ]; then cat "$KEPT/secret"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm -f "$KEPT/secret" ;;
list) if [ -e "$KEPT/secret" ]; then echo "{\"$REGISTRY\": \"$USER\"}"; else echo "{}"; fi ;;
esac
HELPER
chmod +x "$SCRATCH/bin/docker-credential-kept"
coded=$(printf %s "$USER:$SECRET" | base64)
image=$REGISTRY/$PREFIX:v1

round() {
  step "$1"
  rm -rf "$KEPT" "$SCRATCH/config" && mkdir "$KEPT" "$SCRATCH/config" && echo "$2" >"$SCRATCH/config/config.json"
  export DOCKER_CONFIG=$SCRATCH/config
  file=$DOCKER_CONFIG/config.json
  if said=$(echo wrong | "$DOCKER" login -u "$USER" --password-stdin "$REGISTRY" 2>&1); then fail "a wrong password: $said"; fi
  case $said in *[Uu]nauthorized* | *"authentication required"*) ;; *) fail "a wrong password: $said" ;; esac
  [ ! -e "$KEPT/secret" ] && ! grep -q "$REGISTRY\": {" "$file" || fail "a wrong password is kept"
  said=$(echo "$SECRET" | "$DOCKER" login -u "$USER" --password-stdin "$REGISTRY" 2>/dev/null)
  [ "$said" = "Login Succeeded" ] || fail "login: $said"
  "$3"
  "$DOCKER" tag "$IMAGE" "$image"
  "$DOCKER" push -q "$image" >/dev/null
  "$DOCKER" rmi "$image" >/dev/null
  "$DOCKER" pull -q "$image" >/dev/null
  said=$("$DOCKER" logout "$REGISTRY")
  [ "$said" = "Removing login credentials for $REGISTRY" ] || fail "logout: $said"
  [ ! -e "$KEPT/secret" ] && ! grep -q "$coded" "$file" || fail "the secret is still there"
  "$DOCKER" rmi "$image" >/dev/null
  if said=$("$DOCKER" pull "$image" 2>&1 </dev/null); then fail "pulled without a password"; fi
  case $said in *"no basic auth credentials"* | *[Uu]nauthorized* | *"authentication required"*) ;; *) fail "pull: $said" ;; esac
}
in_file() { grep -q "\"auth\": \"$coded\"" "$file" && [ ! -e "$KEPT/asked" ] || fail "not in the client's file: $(cat "$file")"; }
with_helper() { ! grep -q "$coded" "$file" && grep -q "\"Secret\":\"$SECRET\"" "$KEPT/secret" || fail "not with the helper: $(cat "$file")"; }

round "in the client's file" '{}' in_file
round "a helper for this registry" "{\"credHelpers\": {\"$REGISTRY\": \"kept\"}}" with_helper
grep -q get "$KEPT/asked" && grep -q erase "$KEPT/asked" || fail "the helper was not asked: $(cat "$KEPT/asked")"
round "a helper for all" '{"credsStore": "kept"}' with_helper
echo "the day is done"
