"""Does what Testcontainers' Ryuk does, through the socket that its creator bound: takes filters such as
`label=org.testcontainers.session-id=x` over port 8080, acknowledges each, and when nobody has been connected for
RYUK_RECONNECTION_TIMEOUT removes the containers, networks, volumes and images that they match, and ends.
"""

import http.client
import json
import os
import re
import socket
import socketserver
import threading
from urllib.parse import parse_qs, quote

SOCKET = "/var/run/docker.sock"
# A label of Ryuk's image, since some clients give it the session's label as well.
OWN = "org.testcontainers.ryuk"


def seconds(text):
    """A duration as Go writes it, of one unit."""
    number, unit = re.fullmatch(r"([0-9.]+)(ms|s|m)", text).groups()
    return float(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


class Engine(http.client.HTTPConnection):
    def __init__(self):
        super().__init__("localhost")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(SOCKET)


def call(method, path, **query):
    engine = Engine()
    words = "&".join(f"{key}={quote(value)}" for key, value in query.items())
    engine.request(method, f"{path}?{words}")
    reply = engine.getresponse()
    body = reply.read()
    if reply.status >= 400 and reply.status not in (404, 409):
        print(f"{method} {path}: {reply.status} {body.decode()}", flush=True)
    return json.loads(body) if method == "GET" else None


def remove(what):
    """Removes what one client's filter matches; returns how many there are of each kind."""
    filters = json.dumps(what)
    # In Docker's answers a list that is empty may be null.
    containers = [c for c in call("GET", "/containers/json", all="1", filters=filters) or [] if OWN not in c["Labels"]]
    for container in containers:
        call("DELETE", f"/containers/{container['Id']}", force="1", v="1")
    networks = call("GET", "/networks", filters=filters) or []
    for network in networks:
        call("DELETE", f"/networks/{network['Id']}")
    volumes = call("GET", "/volumes", filters=filters)["Volumes"] or []
    for volume in volumes:
        call("DELETE", f"/volumes/{volume['Name']}", force="1")
    images = call("GET", "/images/json", filters=filters) or []
    for image in images:
        call("DELETE", f"/images/{image['Id']}")
    return [len(kind) for kind in (containers, networks, volumes, images)]


class Ryuk(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self):
        super().__init__(("", 8080), Client)
        self.filters, self.connected = [], 0
        self.changed = threading.Condition()

    def count(self, by):
        with self.changed:
            self.connected += by
            self.changed.notify_all()

    def alone(self, first, again):
        """Waits until nobody came for `first` seconds, or nobody came back for `again`."""
        with self.changed:
            while self.changed.wait_for(lambda: self.connected > 0, first):
                self.changed.wait_for(lambda: self.connected == 0)
                first = again


class Client(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.count(1)
        try:
            for line in self.rfile:
                self.take(line.decode().strip())
        except ConnectionError:
            pass
        finally:
            self.server.count(-1)

    def take(self, line):
        filters = parse_qs(line)
        if filters and filters not in self.server.filters:
            self.server.filters.append(filters)
        self.wfile.write(b"ACK\n")


call("GET", "/info")
ryuk = Ryuk()
threading.Thread(target=ryuk.serve_forever, daemon=True).start()
print("level=INFO msg=listening port=8080 Started!", flush=True)
ryuk.alone(seconds(os.environ.get("RYUK_CONNECTION_TIMEOUT", "1m")), seconds(os.environ.get("RYUK_RECONNECTION_TIMEOUT", "10s")))
for what in ryuk.filters:
    print("removed", *remove(what), flush=True)
