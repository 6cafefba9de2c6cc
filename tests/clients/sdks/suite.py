"""A test suite's day with the unmodified Testcontainers for Python. Given: IMAGE (busybox), SCRATCH, DOCKER_HOST or none.
With a word it leaves what it makes to Ryuk and waits to be killed.
"""

import os
import pathlib
import signal
import sys
import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import ExecWaitStrategy, HttpWaitStrategy, LogMessageWaitStrategy, PortWaitStrategy

image, scratch = os.environ["IMAGE"], pathlib.Path(os.environ["SCRATCH"])
SERVER = ["sh", "-c", "mkdir -p /www; echo page >/www/index.html; cat /conf/* >>/www/index.html; echo begins; exec httpd -f -p 80 -h /www"]


def get(container, port=80):
    url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(port)}/"
    return urllib.request.urlopen(url, timeout=20).read()


def server():
    (scratch / "conf").mkdir(exist_ok=True)
    (scratch / "conf/line").write_text("from a bind\n")
    return DockerContainer(image).with_command(SERVER).with_exposed_ports(80).with_volume_mapping(str(scratch / "conf"), "/conf")


if len(sys.argv) > 1:
    network = Network().create()
    container = server().with_network(network).waiting_for(LogMessageWaitStrategy("begins")).start()
    client = container.get_docker_client().client
    client.volumes.create(labels={LABEL_SESSION_ID: SESSION_ID})
    box = client.containers.create(image, "true", labels={LABEL_SESSION_ID: SESSION_ID})
    box.commit("orphan", "latest", changes=[f"LABEL {LABEL_SESSION_ID}={SESSION_ID}"])
    print(f"session={SESSION_ID}", flush=True)
    signal.pause()

print("- waits: a log line, HTTP, a port, a command")
with server().waiting_for(LogMessageWaitStrategy("begins")) as box:
    assert box.get_logs()[0] == b"begins\n", box.get_logs()
with server().waiting_for(HttpWaitStrategy(80).for_status_code(200)) as box:
    assert get(box) == b"page\nfrom a bind\n"
with server().waiting_for(PortWaitStrategy(80)) as box:
    # A port that is published may answer before the program behind it does.
    assert box.get_exposed_port(80) > 0
with server().waiting_for(ExecWaitStrategy(["wget", "-qO-", "http://127.0.0.1/"])) as box:
    assert get(box) == b"page\nfrom a bind\n"
    print("- exec and copy")
    assert box.exec(["sh", "-c", "echo in; exit 3"]) == (3, b"in\n")
    box.copy_into_container(b"copied\n", "/www/new", 0o600)
    assert box.exec("stat -c %a /www/new").output == b"600\n"
    box.copy_from_container("/www/new", scratch / "back")
    assert (scratch / "back").read_bytes() == b"copied\n"

print("- a network and its aliases")
with Network() as network:
    with server().with_network(network).with_network_aliases("web", "www").waiting_for(HttpWaitStrategy(80)) as box:
        for name in ("web", "www"):
            fetch = DockerContainer(image).with_command(["wget", "-qO-", f"http://{name}/"]).with_network(network)
            with fetch as other:
                assert other.wait() == 0, other.get_logs()
                assert other.get_logs()[0] == b"page\nfrom a bind\n"
print("the day is done")
