"""The services of deploy/compose.yaml, from that file, on one machine without Docker: `deploy-test.sh` runs this in a network of its own.

Each service has an address of its own on the loopback interface, and its name in /etc/hosts and in a small name server, so that all
addresses and ports are as the file has them. Kafka runs from its jars, Prometheus and Alertmanager from the system's programs, anomalyd from
its image (podman) or its binary. What has no program here is left out, and said.
"""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "deploy" / "compose.yaml"
PODMAN = ["podman"] + (["--runtime", shutil.which("runc")] if shutil.which("runc") else [])


def say(text):
    print(text, flush=True)


def wait_for(what, seconds, check):
    """Calls `check` until it answers something true; the answer. An error names what did not come."""
    end = time.monotonic() + seconds
    problem = None
    while time.monotonic() < end:
        try:
            found = check()
            if found:
                return found
        except OSError as error:
            problem = error
        time.sleep(0.2)
    raise SystemExit(f"FAILED: {what} did not come within {seconds} s ({problem})")


class NameServer(threading.Thread):
    """Answers for the names of services, as Docker's does: one address each, and no others."""

    def __init__(self, addresses):
        super().__init__(daemon=True)
        self.addresses = addresses
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.53", 53))

    def run(self):
        while True:
            query, peer = self.socket.recvfrom(512)
            try:
                self.socket.sendto(self.answer(query), peer)
            except (IndexError, struct.error):
                continue

    def answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12 : at + 5]
        kind = struct.unpack("!H", query[at + 1 : at + 3])[0]
        found = self.addresses.get(".".join(labels).lower(), [])
        answers = found if kind == 1 else []
        flags = 0x8580 if found else 0x8583
        head = query[:2] + struct.pack("!HHHHH", flags, 1, len(answers), 0, 0)
        body = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + socket.inet_aton(each) for each in answers)
        return head + question + body


class Stack:
    """The services, started in the order in which they depend on each other."""

    def __init__(self, folder, image=None, binary=None, libs=None):
        self.folder = Path(folder)
        self.image, self.binary, self.libs = image, binary, libs
        self.services = yaml.safe_load(COMPOSE.read_text())["services"]
        self.processes = {}
        self.containers = []
        self.left_out = []
        names = list(self.services)
        self.address = {name: f"127.0.1.{1 + index}" for index, name in enumerate(names)}
        self.settings = {}

    def names(self):
        """Makes the services' names known to all that runs here."""
        hosts = [f"127.0.0.1 localhost {socket.gethostname()}"] + [f"{address} {name}" for name, address in self.address.items()]
        self.bind("hosts", "\n".join(hosts) + "\n", "/etc/hosts")
        self.bind("resolv.conf", "nameserver 127.0.0.53\noptions ndots:1\n", "/etc/resolv.conf")
        NameServer({name: [address] for name, address in self.address.items()}).start()

    def bind(self, name, text, over):
        file = self.folder / name
        file.write_text(text)
        subprocess.run(["mount", "--bind", str(file), os.path.realpath(over)], check=True)

    def order(self):
        """Services, each after those that it depends on."""
        done = []

        def visit(name):
            for other in self.services[name].get("depends_on", {}):
                visit(other)
            if name not in done:
                done.append(name)

        for name in self.services:
            visit(name)
        return done

    def start_all(self, skip=()):
        for name in self.order():
            if name not in skip:
                self.start(name)

    def start(self, name):
        service = self.services[name]
        image = service["image"].split(":")[0]
        if image == "apache/kafka":
            self.kafka(name, service)
        elif image == "anomalyd":
            self.anomalyd(name, service)
        elif image in ("prom/prometheus", "prom/alertmanager"):
            self.monitoring(name, service, image.removeprefix("prom/"))
        else:
            self.left_out.append(f"{name} ({image}: no program for it here)")
        if service.get("restart") == "no" and name in self.processes:
            code = self.processes[name].wait(timeout=120)
            if code != 0:
                raise SystemExit(f"FAILED: {name} ended with {code}:\n{self.log(name)}")

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def spawn(self, name, command, environment=None):
        log = open(self.folder / f"{name}.log", "a")
        environment = {**os.environ, **(environment or {})}
        environment.pop("COLUMNS", None)
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
        self.processes[name] = process
        return process

    def mounted(self, service, inside):
        """The file of this repository that the service has at that path."""
        for volume in service.get("volumes", []):
            host, path = volume.split(":")[:2]
            if path == inside:
                return (COMPOSE.parent / host).resolve()
        return None

    def java(self, *arguments):
        log = f"-Dlog4j2.configurationFile=file:{ROOT}/tests/kafka/log4j2.properties"
        return ["java", "-Xmx384m", "-XX:+UseSerialGC", "-cp", f"{self.libs}/*", log, *arguments]

    def kafka(self, name, service):
        data = self.folder / "kafka-data"
        lines = []
        for key, value in service["environment"].items():
            if key == "KAFKA_LOG_DIRS":
                value = data
            lines.append(f"{key.removeprefix('KAFKA_').lower().replace('_', '.')}={value}")
        settings = self.folder / "kafka.properties"
        settings.write_text("\n".join(lines) + "\n")
        made = subprocess.run(self.java("kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", str(settings)),
                              capture_output=True, text=True, env={k: v for k, v in os.environ.items() if k != "COLUMNS"})
        if made.returncode != 0:
            raise SystemExit(f"FAILED: Kafka cannot be formatted: {made.stdout}{made.stderr}")
        self.spawn(name, self.java(f"-Dkafka.logs.dir={self.folder}", "kafka.Kafka", str(settings)))
        wait_for("Kafka", 90, lambda: socket.create_connection((name, 19092), 1))

    def monitoring(self, name, service, program):
        binary = shutil.which(program) or shutil.which(f"prometheus-{program}")
        if binary is None:
            self.left_out.append(f"{name} (no {program} here)")
            return
        port = service["ports"][0].split(":")[1]
        file = self.mounted(service, f"/etc/{program}/{program}.yml")
        state = self.folder / f"{name}-data"
        state.mkdir(exist_ok=True)
        arguments = [f"--config.file={file}", f"--storage.{'tsdb.' if program == 'prometheus' else ''}path={state}",
                     f"--web.listen-address=0.0.0.0:{port}"]
        if program == "alertmanager":
            arguments.append("--cluster.listen-address=")
        self.spawn(name, [binary, *arguments])
        wait_for(name, 30, lambda: socket.create_connection((name, int(port)), 1))

    def anomalyd(self, name, service):
        # All replicas would have port 9464 of one machine: each service has it on its own address.
        environment = {key: str(value) for key, value in service["environment"].items()}
        environment["ANOMALYD__HTTP__LISTEN"] = f"{self.address[name]}:9464"
        environment = {**environment, **self.settings}
        command = service.get("command", ["run"])
        own = self.mounted(service, "/etc/anomalyd/anomalyd.toml")
        if self.image is None:
            files = [ROOT / "deploy" / "container.toml"] + ([own] if own else [])
            environment["ANOMALYD_CONFIG"] = ",".join(map(str, files))
            self.spawn(name, [self.binary, *command], environment)
            return
        run = [*PODMAN, "run", "--replace", "--name", f"anomalyd-test-{name}", "--network=host", "--no-hosts",
               # Where the limits of this shell are lower than podman's own.
               "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--cgroups=enabled"]
        run += [f"--env={key}={value}" for key, value in environment.items()]
        run += [f"--cap-drop={each}" for each in service.get("cap_drop", [])]
        run += [f"--security-opt={each.replace(':', '=').removesuffix('=true')}" for each in service.get("security_opt", [])]
        run += ["--read-only", "--read-only-tmpfs=false"] if service.get("read_only") else []
        run += [f"--memory={service['mem_limit']}"] if "mem_limit" in service else []
        for file in ("hosts", "resolv.conf"):
            run.append(f"--volume={self.folder / file}:/etc/{file}:ro")
        run += [f"--volume={own}:/etc/anomalyd/anomalyd.toml:ro"] if own else []
        self.containers.append(f"anomalyd-test-{name}")
        self.spawn(name, [*run, self.image, *command])

    def stop(self):
        for container in self.containers:
            subprocess.run([*PODMAN, "rm", "--force", "--time", "5", container], capture_output=True, check=False)
        for process in reversed(list(self.processes.values())):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
