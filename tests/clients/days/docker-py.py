"""A day's work with the unmodified docker-py. Given: DOCKER_HOST, IMAGE (busybox), PREFIX, REGISTRY, SCRATCH."""

import io
import os
import socket
import tarfile
import threading
import time

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound

image, prefix, registry, scratch = (os.environ[k] for k in ("IMAGE", "PREFIX", "REGISTRY", "SCRATCH"))
client = docker.from_env(timeout=120)
low = client.api
label = f"{prefix}-day"


def raises(kind, call, *words):
    try:
        call()
    except kind as error:
        for word in words:
            assert word in str(error), f"no {word!r} in {error}"
        return
    raise AssertionError(f"{kind.__name__} was expected")


print("- system")
assert client.ping()
assert client.version()["ApiVersion"] == low._version
assert client.info()["OSType"] == "linux"
assert "LayersSize" in client.df()

print("- push and pull")
remote = f"{registry}/{prefix}/busybox"
assert client.images.get(image).tag(remote, "v1")
pushed = list(client.images.push(remote, "v1", stream=True, decode=True))
assert not [line for line in pushed if "error" in line], pushed
assert any(line.get("aux", {}).get("Digest", "").startswith("sha256:") for line in pushed), pushed
client.images.remove(f"{remote}:v1")
raises(ImageNotFound, lambda: client.images.get(f"{remote}:v1"))
pulled = client.images.pull(remote, "v1")
assert f"{remote}:v1" in pulled.tags, pulled.tags
client.images.remove(f"{remote}:v1")
raises(NotFound, lambda: client.images.pull(f"{registry}/{prefix}/nope", "v1"))
raises(ImageNotFound, lambda: client.containers.create(f"{prefix}-nope"), "No such image")

print("- run")
assert client.containers.run(image, "echo hello", remove=True) == b"hello\n"
assert client.containers.run(image, ["sh", "-c", "echo err >&2"], remove=True, stderr=True) == b"err\n"
raises(ContainerError, lambda: client.containers.run(image, ["sh", "-c", "exit 3"], remove=True), "exit status 3")
raises(NotFound, lambda: client.containers.get(f"{prefix}-nope"), f"No such container: {prefix}-nope")
with open(f"{scratch}/file", "w") as f:
    f.write("seen\n")
out = client.containers.run(
    image, ["sh", "-c", "cat /mnt/file; echo $A; ulimit -n"], remove=True, environment={"A": "b"},
    volumes={scratch: {"bind": "/mnt", "mode": "ro"}}, mem_limit="64m", nano_cpus=500_000_000, cap_drop=["ALL"],
    ulimits=[docker.types.Ulimit(name="nofile", soft=99, hard=99)], tmpfs={"/t": ""}, read_only=True, init=True,
)
assert out == b"seen\nb\n99\n", out

print("- a container's life")
box = client.containers.run(
    image, ["sh", "-c", "trap 'exit 6' TERM; echo up; while :; do sleep 1000 & wait; done"], detach=True,
    name=f"{prefix}-box", labels={label: "x"}, ports={"80/tcp": ("127.0.0.1", None)},
)
assert next(box.logs(stream=True, follow=True)) == b"up\n"
box.reload()
assert box.status == "running"
assert box.attrs["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].isdigit()
assert box.attrs["State"].get("Health") is None
assert [c.name for c in client.containers.list(filters={"label": label})] == [box.name]
assert box.exec_run(["sh", "-c", "echo in; exit 5"]) == (5, b"in\n")
assert box.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True).output == (b"o\n", b"e\n")
assert box.exec_run("id -u", user="app").output == b"1000\n"
assert box.exec_run("pwd", workdir="/tmp", environment=["X=y"]).output == b"/tmp\n"
code, stream = box.exec_run(["sh", "-c", "echo 1; echo 2"], stream=True)
assert b"".join(stream) == b"1\n2\n"
assert box.top()["Titles"][1] == "PID"
assert box.stats(stream=False)["memory_stats"]["usage"] > 0
assert next(box.stats(decode=True))["id"] == box.id
box.pause()
box.reload()
assert box.status == "paused"
box.unpause()
box.rename(f"{prefix}-crate")
box.reload()
assert box.name == f"{prefix}-crate"
box.update(cpu_shares=300)
box.stop(timeout=30)
assert box.wait() == {"StatusCode": 6}
box.restart()
box.kill()
assert box.wait()["StatusCode"] == 137
raises(APIError, box.kill, "409", "is not running")

print("- attach and exec sockets")
cat = client.containers.create(image, "cat", stdin_open=True, labels={label: "x"})
sock = cat.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
cat.start()
sock._sock.sendall(b"through\n")
head = sock._sock.recv(8)
assert head[0] == 1 and int.from_bytes(head[4:], "big") == 8, head
assert sock._sock.recv(8) == b"through\n"
sock._sock.shutdown(socket.SHUT_WR)
sock.close()
cat.remove(force=True)
loud = client.containers.create(image, ["sh", "-c", "for i in 1 2 3; do echo $i; done"], labels={label: "x"})
seen = loud.attach(stream=True, stdout=True, stderr=True)
loud.start()
assert b"".join(seen) == b"1\n2\n3\n"
assert loud.logs(tail=1) == b"3\n"
assert loud.logs(timestamps=True).count(b"Z ") == 3

print("- files")
data = io.BytesIO()
with tarfile.open(fileobj=data, mode="w") as tar:
    info = tarfile.TarInfo("put")
    info.size = 4
    tar.addfile(info, io.BytesIO(b"body"))
assert loud.put_archive("/tmp", data.getvalue())
chunks, stat = loud.get_archive("/tmp/put")
assert stat["name"] == "put" and stat["size"] == 4, stat
with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
    assert tar.extractfile("put").read() == b"body"
assert {"Path": "/tmp/put", "Kind": 1} in loud.diff()
raises(NotFound, lambda: loud.get_archive("/nope"), "Could not find the file /nope")

print("- images")
made = loud.commit(f"{prefix}-made", "v1", message="why", changes="CMD cat /tmp/put")
assert client.containers.run(made.id, remove=True) == b"body"
assert made.history()[0]["Comment"] == "why"
saved = b"".join(made.save(named=True))
client.images.remove(made.id, force=True)
loaded = client.images.load(saved)
assert loaded[0].tags == [f"{prefix}-made:v1"], loaded[0].tags
assert client.images.list(name=f"{prefix}-made")[0].id == loaded[0].id
client.images.remove(f"{prefix}-made:v1")

print("- events")
found = []
events = client.events(decode=True, filters={"container": f"{prefix}-ev", "event": ["start", "die"]})
reader = threading.Thread(target=lambda: found.extend([next(events)["Action"], next(events)["Action"]]))
reader.start()
time.sleep(0.2)
ev = client.containers.run(image, "true", detach=True, name=f"{prefix}-ev", labels={label: "x"})
reader.join()
assert found == ["start", "die"], found
ev.wait()

print("- prune")
gone = client.containers.prune(filters={"label": label})["ContainersDeleted"]
assert ev.id in gone and loud.id in gone and box.id in gone, gone
assert client.images.prune(filters={"label": label})["ImagesDeleted"] is None
assert client.networks.list(names=["bridge"])[0].attrs["Driver"] == "bridge"
assert client.networks.get("host").name == "host"
assert client.volumes.list(filters={"label": label}) == []
assert client.plugins.list() == []
print("the day is done")
