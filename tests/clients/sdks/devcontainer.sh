# A developer's morning with the unmodified devcontainer CLI. Given: IMAGE (busybox) and docker in PATH.
set -ex
work=/tmp/project
mkdir -p $work/.devcontainer
echo "of the workspace" >$work/file
cat >$work/.devcontainer/devcontainer.json <<CONFIG
{
  "image": "$IMAGE",
  "workspaceMount": "source=\${localWorkspaceFolder},target=/workspace,type=bind",
  "workspaceFolder": "/workspace",
  "containerEnv": { "GIVEN": "in the container" },
  "remoteEnv": { "REMOTE": "to commands" },
  "postCreateCommand": "echo created >>/workspace/steps",
  "postStartCommand": "echo started >>/workspace/steps"
}
CONFIG
up() { devcontainer up --workspace-folder $work | tail -n 1 | sed -n 's/.*"outcome":"success","containerId":"\([0-9a-f]*\)".*/\1/p'; }
run() { devcontainer exec --workspace-folder $work "$@"; }

first=$(up)
test ${#first} -eq 64
test "$(run cat file)" = "of the workspace"
test "$(run sh -c 'echo $GIVEN, $REMOTE, $(pwd)')" = "in the container, to commands, /workspace"
run sh -c 'echo written >out'
test "$(cat $work/out)" = written
run sh -c 'exit 7' && exit 1 || test $? -eq 7
# It finds the same container again, by its labels.
test "$(up)" = $first
docker stop -t 0 $first
test "$(up)" = $first
test "$(cat $work/steps | tr '\n' ' ')" = "created started started "
test "$(devcontainer up --workspace-folder $work --remove-existing-container | grep -c '"outcome":"success"')" = 1
test "$(docker ps -aq --filter label=devcontainer.local_folder=$work | wc -l)" = 1
docker ps -aq --no-trunc | grep -v $first
docker rm -f $(docker ps -aq)
