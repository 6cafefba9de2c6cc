#!/usr/bin/env python3
"""Droste against the real Docker on the same work in one run: `make bench`.

Docker is the one that BENCH_DOCKER_HOST names (unix://PATH); without it only Droste is measured and the
table says so. Every figure is a median; runs of the two engines alternate, so that both see the same
machine. Droste is measured with its own client and with Docker's, Docker with its own.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

IMAGE = "droste-bench:latest"
# After so many seconds without work an engine is idle.
IDLE = 10
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Api(http.client.HTTPConnection):
    """The engine's API over its Unix socket, for what no client is to be measured in."""

    def __init__(self, path):
        super().__init__("docker", timeout=300)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(300)
        self.sock.connect(self.path)

    def call(self, method, target, body=None, kind="application/json"):
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        self.request(method, target, data, {"Content-Type": kind} if body is not None else {})
        reply = self.getresponse()
        text = reply.read()
        if reply.status >= 400:
            raise RuntimeError(f"{method} {target}: {reply.status} {text[:300]!r}")
        return json.loads(text) if text[:1] in (b"{", b"[") and text.count(b"\n") <= 1 else text


class Engine:
    """One engine and one client to measure it with."""

    def __init__(self, name, host, client):
        self.name, self.host, self.client = name, host, client
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
        self.env.update(DOCKER_HOST=host, DOCKER_CONFIG="/nonexistent", DOCKER_API_VERSION="1.51")
        if "droste" not in os.path.basename(client):
            self.env.pop("DOCKER_API_VERSION")

    def api(self):
        return Api(self.host.removeprefix("unix://"))

    def run(self, *words, **more):
        done = subprocess.run([self.client, *words], env=self.env, capture_output=True, text=True, **more)
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def timed(self, *words):
        start = time.perf_counter()
        self.run(*words)
        return time.perf_counter() - start

    def remove_all(self):
        api = self.api()
        for row in api.call("GET", "/containers/json?all=1&filters=%7B%22label%22%3A%5B%22droste-bench%22%5D%7D"):
            api.call("DELETE", f"/containers/{row['Id']}?force=1")


def rootfs(extra=b"", droste=None):
    """A tar of busybox, optionally with a large file and with a client."""
    path = tempfile.mktemp(suffix=".tar", dir="/var/tmp")
    busybox = shutil.which("busybox")
    with tarfile.open(path, "w") as tar:
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "usr", "usr/bin", "var", "var/run"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        for applet in ("sh", "true", "sleep", "cat", "ls", "date", "grep", "seq"):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        if droste:
            tar.add(droste, "usr/bin/docker")
        if extra:
            with open(extra, "rb") as f:
                entry = tarfile.TarInfo("big")
                entry.size, entry.mode = os.path.getsize(extra), 0o644
                tar.addfile(entry, f)
    return path


def median(values):
    return statistics.median(values)


def alternate(engines, count, work):
    """Medians of `work(engine)` with the engines taking turns; one unmeasured turn first.

    An engine cleans up after its client has gone: each does its work twice, and the second time, which is measured,
    what it finds going on is its own.
    """
    seen = {engine: [] for engine in engines}
    for turn in range(count + 1):
        for engine in engines:
            work(engine)
            value = work(engine)
            if turn:
                seen[engine].append(value)
    return {engine: median(values) for engine, values in seen.items()}


def pss(pids):
    """Proportional set size in KiB, summed over processes."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
        except OSError:
            pass
    return total


def listener(host):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(host.removeprefix("unix://"))
        return int.from_bytes(s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")


def parents():
    table = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                table[int(pid)] = int(f.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            pass
    return table


def engine_processes(host):
    """The daemon, its helpers and its shims; not what runs in containers."""
    daemon = listener(host)
    table = parents()
    found = {daemon}
    namespaces = os.readlink(f"/proc/{daemon}/ns/pid")
    # containerd's shims have no parent; they are known by the daemon's folder in their command line.
    root = None
    with open(f"/proc/{daemon}/cmdline") as f:
        words = f.read().split("\0")
        for i, word in enumerate(words):
            if word == "--exec-root":
                root = words[i + 1]
    grew = True
    while grew:
        grew = False
        for pid, parent in table.items():
            if pid in found:
                continue
            try:
                with open(f"/proc/{pid}/cmdline") as f:
                    line = f.read()
                inside = os.readlink(f"/proc/{pid}/ns/pid") == namespaces
            except OSError:
                continue
            if inside and (parent in found or (root and f"{root}/" in line)):
                found.add(pid)
                grew = True
    return found


def burst(engine, clients=8, each=5):
    """40 containers from 8 clients at once."""
    def one(_):
        for _ in range(each):
            engine.run("run", "--rm", "--label", "droste-bench", IMAGE, "true")
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(clients)))
    return time.perf_counter() - start


def execs(engine):
    engine.run("run", "-d", "--label", "droste-bench", "--name", "bench-exec", IMAGE, "sleep", "100000")
    return lambda e: e.timed("exec", "bench-exec", "true")


def many(engine, count=1000):
    """1,000 stopped containers."""
    api = engine.api()
    for _ in range(count):
        api.call("POST", "/containers/create", {"Image": IMAGE, "Cmd": ["true"], "Labels": {"droste-bench": ""}})


def nested_seconds(engine, level, count):
    """The time of `run --rm IMAGE true` as a client inside a container at `level` measures it."""
    loop = f"for i in $(seq {count + 2}); do cat /proc/uptime; docker run --rm --network none {IMAGE} true; done; cat /proc/uptime"
    command = ["sh", "-c", loop]
    for _ in range(level - 1):
        command = ["docker", "run", "--rm", "-v", "/var/run/docker.sock:/var/run/docker.sock", IMAGE, *command]
    out = engine.run("run", "--rm", "--label", "droste-bench", "-v", "/var/run/docker.sock:/var/run/docker.sock", IMAGE, *command)
    marks = [float(line.split()[0]) for line in out.splitlines()]
    return (marks[-1] - marks[2]) / count


LOOKUP = """
import socket, statistics, time
name = %r
labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
question = b"\\x12\\x34\\x01\\x00\\x00\\x01" + bytes(6) + labels + b"\\x00\\x00\\x01\\x00\\x01"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
s.connect(("127.0.0.11", 53))
times = []
for _ in range(1000):
    start = time.perf_counter()
    s.send(question)
    answer = s.recv(512)
    times.append(time.perf_counter() - start)
assert answer[7] == 1, answer
print(statistics.median(times))
"""


def started(engine, config, exposed=None):
    """A running container made over the API, and how long its start took."""
    api = engine.api()
    body = {"Image": IMAGE, "Cmd": ["sleep", "100000"], "Labels": {"droste-bench": ""}, "HostConfig": config, "ExposedPorts": exposed or {}}
    identity = api.call("POST", "/containers/create", body)["Id"]
    start = time.perf_counter()
    api.call("POST", f"/containers/{identity}/start")
    return identity, time.perf_counter() - start


def start_seconds(engine, config, exposed=None):
    identity, seconds = started(engine, config, exposed)
    engine.api().call("DELETE", f"/containers/{identity}?force=1")
    return seconds


def published(engine):
    """What a bridge attachment with a published port adds to a start without a network."""
    port = {"NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}}
    return start_seconds(engine, port, {"80/tcp": {}}) - start_seconds(engine, {"NetworkMode": "none"})


def hundred(engine):
    """A hundred containers on one network: first starts, last starts, and the median of a look-up among them."""
    api = engine.api()
    api.call("POST", "/networks/create", {"Name": "droste-bench-net", "Labels": {"droste-bench": ""}})
    for _ in range(3):
        start_seconds(engine, {"NetworkMode": "droste-bench-net"})
    made = [started(engine, {"NetworkMode": "droste-bench-net"}) for _ in range(100)]
    first, last = median([seconds for _, seconds in made[:10]]), median([seconds for _, seconds in made[-10:]])
    pid = api.call("GET", f"/containers/{made[0][0]}/json")["State"]["Pid"]
    words = ["nsenter", f"--net=/proc/{pid}/ns/net", "python3", "-c", LOOKUP % made[-1][0][:12]]
    lookup = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    engine.remove_all()
    api.call("DELETE", "/networks/droste-bench-net")
    return first, last, lookup


def throughput(engine):
    """iperf3 between two containers of a network, and from the host to a published port: Gbit/s."""
    api = engine.api()
    api.call("POST", "/networks/create", {"Name": "droste-bench-net", "Labels": {"droste-bench": ""}})
    run = ("run", "--label", "droste-bench", "--tmpfs", "/tmp")
    engine.run(*run, "-d", "--name", "bench-server", "--network", "droste-bench-net", "-p", "5201:5201", "droste-bench-iperf3", "iperf3", "-s")
    gateway = json.loads(engine.run("network", "inspect", "droste-bench-net"))[0]["IPAM"]["Config"][0]["Gateway"]

    def measured(network, server):
        said = ""
        for _ in range(20):
            try:
                said = engine.run(*run, "--rm", "--network", network, "droste-bench-iperf3", "iperf3", "-J", "-t", "3", "-c", server)
                return json.loads(said)["end"]["sum_received"]["bits_per_second"] / 1e9
            except (RuntimeError, KeyError) as error:
                said = f"{said} {error}"
                time.sleep(0.1)
        raise RuntimeError(f"{engine.name}: iperf3 does not reach {server}: {said}")
    rates = measured("droste-bench-net", "bench-server"), measured("host", gateway)
    engine.remove_all()
    api.call("DELETE", "/networks/droste-bench-net")
    return rates


def networks(table, ours, docker, runs, quick, clients):
    """The figures of networks, each beside Docker's."""
    hosts = [ours] + ([docker] if docker else [])
    other = lambda seen, scale=1: seen[docker] * scale if docker else None
    seen = alternate(hosts, runs, published)
    table.row("a bridge with a published port adds", seen[ours] * 1000, other(seen, 1000), "ms", "<= 8 ms")
    groups = {engine: hundred(engine) for engine in hosts}
    pick = lambda index, scale=1: (groups[ours][index] * scale, groups[docker][index] * scale if docker else None)
    table.row("first starts on a network", *pick(0, 1000), "ms", "-")
    table.row("hundredth start on that network", *pick(1, 1000), "ms", f"<= {groups[ours][0] * 1200:.1f} ms (1.2x its first)")
    table.row("look-up of a name among 100", *pick(2, 1000), "ms", "< 1 ms")
    root = f"{clients}/programs/iperf3"
    archive = tempfile.mktemp(suffix=".tar", dir="/var/tmp")
    subprocess.run(["tar", "--exclude", "./.whole", "-cf", archive, "-C", root, "."], check=True)
    try:
        for engine in hosts:
            with open(archive, "rb") as f:
                engine.api().call("POST", "/images/create?fromSrc=-&repo=droste-bench-iperf3&tag=latest&changes=ENV%20PATH%3D/usr/bin", f, "application/x-tar")
        rates = {engine: [] for engine in hosts}
        for _ in range(2 if quick else 5):
            for engine in hosts:
                rates[engine].append(throughput(engine))
    finally:
        os.unlink(archive)
    for index, what in enumerate(("between two containers", "to a published port")):
        best = {engine: max(rate[index] for rate in rates[engine]) for engine in hosts}
        table.row(what, best[ours], best[docker] if docker else None, "Gbit/s", "within 5 % of Docker's")
    for engine in hosts:
        engine.api().call("DELETE", "/images/droste-bench-iperf3:latest?force=1")


def nesting(table, ours, docker, runs, quick):
    """What a level costs. Docker in Docker is compared where Docker has no hosts; it is not in the other rows."""
    turns = range(1 if quick else 3)
    ours_seconds = median([two_hosts(ours, True) for _ in turns])
    theirs_seconds = median([two_hosts(docker, False) for _ in turns]) if docker else None
    table.row("2 hosts, 50 containers each at once", ours_seconds, theirs_seconds, "s", "10x Docker in Docker")
    socket_bind = ("-v", "/var/run/docker.sock:/var/run/docker.sock")
    run = ("run", "--rm", "--label", "droste-bench")
    inner = ("docker", "run", "--rm", "--network", "none", IMAGE, "true")
    first = alternate([ours], runs, lambda e: e.timed(*run, *socket_bind, IMAGE, *inner))[ours]
    table.row("run of a host, to its first container's end", first * 1000, None, "ms", "<= 60 ms")
    levels = alternate([1, 2, 3], 1 if quick else 3, lambda level: nested_seconds(ours, level, 10))
    levels[0] = alternate([ours], runs, lambda e: e.timed(*run, "--network", "none", IMAGE, "true"))[ours]
    for level in range(4):
        goals = ["-", f"<= {levels[0] * 1300:.1f} ms (1.3x level 0)", f"<= {levels[1] * 1300:.1f} ms (1.3x level 1)",
                 f"<= {levels[0] * 1500:.1f} ms (1.5x level 0)"]
        table.row(f"run --rm true on level {level}", levels[level] * 1000, None, "ms", goals[level])


FIFTY = f"for i in $(seq 50); do docker run --rm {IMAGE} true || echo failed & done; wait"

# Docker in Docker of the files that its machine has, so that nothing has to be fetched: what is measured is an
# engine in each of two containers, with the image at hand.
INNER_DOCKER = ("--privileged", "-v", "/var/lib/docker", "-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro",
                "-v", "/etc/alternatives:/etc/alternatives:ro", "--tmpfs", "/run", "-e", "PATH=/usr/sbin:/usr/bin:/bin")


def two_hosts(engine, nested):
    """Two hosts that run 50 short containers each at once: the seconds until all have ended."""
    names = ["bench-host-1", "bench-host-2"]
    try:
        for name in names:
            run = ("run", "-d", "--label", "droste-bench", "--name", name)
            if nested:
                engine.run(*run, "-v", "/var/run/docker.sock:/var/run/docker.sock", IMAGE, "sleep", "100000")
            else:
                inner_docker(engine, run, name)
        start = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            said = list(pool.map(lambda name: engine.run("exec", name, "sh", "-c", FIFTY), names))
        seconds = time.perf_counter() - start
        if any(said):
            raise RuntimeError(f"{engine.name}: {said}")
        return seconds
    finally:
        engine.run("rm", "-f", "-v", *names)


def inner_docker(engine, run, name):
    """A container with a dockerd of its own that has the image."""
    engine.run(*run, *INNER_DOCKER, IMAGE, "dockerd")
    load = [engine.client, "exec", "-i", name, "docker", "load", "-q"]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        archive = f"{scratch}/image.tar"
        engine.run("save", "-o", archive, IMAGE)
        for _ in range(120):
            time.sleep(0.5)
            with open(archive, "rb") as f:
                if subprocess.run(load, env=engine.env, stdin=f, **QUIET).returncode == 0:
                    return
    raise RuntimeError(f"{engine.name}: the dockerd in {name} does not start: {engine.run('logs', name)}")


class Table:
    def __init__(self, with_docker):
        self.with_docker = with_docker
        print(f"{'':44} {'Droste':>10} {'Docker':>10} {'ratio':>8}   goal")

    def row(self, what, droste, docker, unit, goal):
        shown = f"{docker:10.2f}" if docker is not None else f"{'-':>10}"
        ratio = f"{docker / droste:7.1f}x" if docker is not None and droste else f"{'-':>8}"
        print(f"{what + ', ' + unit:44} {droste:10.2f} {shown} {ratio}   {goal}", flush=True)


def start_droste(program, work):
    host = f"unix://{work}/docker.sock"
    log = open(f"{work}/log", "w")
    command = ["unshare", "--net", "sh", "-c", 'busybox ip link set lo up; exec "$@"', "sh", program, "daemon", "-H", host,
               "--data-root", f"{work}/data", "--exec-root", f"{work}/run", "--pidfile", f"{work}/pid"]
    daemon = subprocess.Popen(command, stdout=log, stderr=log)
    for _ in range(600):
        try:
            Api(host.removeprefix("unix://")).call("GET", "/_ping")
            return daemon, host
        except OSError:
            time.sleep(0.05)
            if daemon.poll() is not None:
                break
    sys.exit(f"droste does not start:\n{open(f'{work}/log').read()}")


def measure(ours, theirs, docker, runs, quick, clients, only_networks):
    table = Table(docker)
    networks(table, ours, docker, runs, quick, clients)
    if only_networks:
        return
    engines = [ours, theirs] + ([docker] if docker else [])
    hosts = [ours] + ([docker] if docker else [])

    def compare(what, unit, scale, work, goal, other_goal=None):
        seen = alternate(engines, runs, work)
        theirs_value = seen[docker] * scale if docker else None
        table.row(what + ", own client", seen[ours] * scale, theirs_value, unit, goal)
        if other_goal:
            table.row(what + ", docker's client", seen[theirs] * scale, theirs_value, unit, other_goal)

    time.sleep(IDLE)
    idle = {engine: pss(engine_processes(engine.host)) for engine in hosts}
    run = ("run", "--rm", "--label", "droste-bench")
    compare("run --rm true, bridge", "ms", 1000, lambda e: e.timed(*run, IMAGE, "true"), "10x", "5x")
    compare("run --rm true, no network", "ms", 1000, lambda e: e.timed(*run, "--network", "none", IMAGE, "true"), "10x", "5x")
    for engine in hosts:
        execs(engine)
    compare("exec true", "ms", 1000, lambda e: e.timed("exec", "bench-exec", "true"), "10x", "-")
    for engine in hosts:
        engine.remove_all()
    seen = alternate(engines, 1 if quick else 3, burst)
    table.row("40 containers, 8 clients", seen[ours], seen[docker] if docker else None, "s", "10x")
    table.row("40 containers, 8 of docker's clients", seen[theirs], seen[docker] if docker else None, "s", "-")

    table.row("idle memory (PSS)", idle[ours] / 1024, idle[docker] / 1024 if docker else None, "MiB", "<= 20 MiB")
    each = {}
    for engine in hosts:
        before = pss(engine_processes(engine.host))
        for _ in range(20):
            engine.run("run", "-d", "--label", "droste-bench", IMAGE, "sleep", "100000")
        each[engine] = (pss(engine_processes(engine.host)) - before) / 20
        engine.remove_all()
    table.row("each running container (PSS)", each[ours] / 1024, each[docker] / 1024 if docker else None, "MiB", "<= 1 MiB")

    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        big = f"{scratch}/big"
        with open(big, "wb") as f:
            for _ in range(200):
                f.write(os.urandom(1 << 20))
        layer = rootfs(big)
        with open(layer, "rb") as f:
            ours.api().call("POST", "/images/create?fromSrc=-&repo=droste-bench-big&tag=latest", f, "application/x-tar")
        os.unlink(layer)
        archive = f"{scratch}/big.tar"
        ours.run("save", "-o", archive, "droste-bench-big:latest")
        ours.run("rmi", "droste-bench-big:latest")

        def load(engine):
            seconds = engine.timed("load", "-q", "-i", archive)
            engine.run("rmi", "droste-bench-big:latest")
            return seconds
        seen = alternate(hosts, 1 if quick else 3, load)
        table.row("load of a 200 MB image", seen[ours], seen[docker] if docker else None, "s", "2x")

    count = 100 if quick else 1000
    for engine in hosts:
        many(engine, count)
    seen = alternate(engines, runs, lambda e: e.timed("ps", "-a"))
    table.row(f"ps -a with {count} containers", seen[ours] * 1000, seen[docker] * 1000 if docker else None, "ms", "< 20 ms")
    for engine in hosts:
        engine.remove_all()

    nesting(table, ours, docker, runs, quick)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--droste", required=True)
    parser.add_argument("--docker-client", default=shutil.which("docker"))
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--clients", required=True, help="the folder of scripts/clients")
    parser.add_argument("--networks", action="store_true", help="the figures of networks alone")
    parser.add_argument("--quick", action="store_true", help="fewer runs and containers")
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="droste-bench-", dir="/var/tmp")
    daemon, host = start_droste(options.droste, work)
    ours = Engine("droste", host, options.droste)
    theirs = Engine("droste, docker's client", host, options.docker_client)
    docker = None
    if os.environ.get("BENCH_DOCKER_HOST"):
        docker = Engine("docker", os.environ["BENCH_DOCKER_HOST"], options.docker_client)
    else:
        print("No Docker to compare with: set BENCH_DOCKER_HOST=unix://PATH. Droste alone:")
    engines = [ours] + ([docker] if docker else [])
    image = rootfs(droste=options.droste)
    try:
        for engine in engines:
            with open(image, "rb") as f:
                engine.api().call("POST", "/images/create?fromSrc=-&repo=droste-bench&tag=latest", f, "application/x-tar")
        measure(ours, theirs, docker, 5 if options.quick else options.runs, options.quick, options.clients, options.networks)
    finally:
        os.unlink(image)
        for engine in engines:
            try:
                engine.remove_all()
                engine.api().call("DELETE", f"/images/{IMAGE}?force=1")
            except (OSError, RuntimeError) as error:
                print(f"{engine.name}: {error}", file=sys.stderr)
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
