"""What `make deploy-test` tries on the running services of deploy/compose.yaml; `deploy-test.sh` starts it, in a network of its own.

A plant sends to a real Kafka and goes wrong; anomalyd finds it, in its container where there is podman; a real Prometheus scrapes it, is asked
everything that the dashboards and the rules ask, and a real Alertmanager hears of what was found. Ends with 1 and a line that begins with
FAILED where something does not hold.
"""

import argparse
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

from stack import PODMAN, ROOT, Stack, say, wait_for

# Panels' queries that have no data while all is well, and why.
WITHOUT = {"Telemetry, and requests of no detector alone": "there is no collector, and one detector"}
# What the image may weigh, without what scratch weighs: nothing.
IMAGE_MAX = 40e6
STOP_MAX = 5.0

failures = []


def check(holds, text):
    say(f"  {'ok    ' if holds else 'FAILED'}  {text}")
    if not holds:
        failures.append(text)


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metric(name, **labels):
    """The sum of a metric's series at anomalyd's own /metrics."""
    total = 0.0
    for line in get("http://anomalyd:9464/metrics")[1].splitlines():
        if line.split("{")[0].split(" ")[0] == name and all(f'{key}="{value}"' in line for key, value in labels.items()):
            total += float(line.rsplit(" ", 1)[1])
    return total


def ask(query):
    """What Prometheus answers: series, or an error."""
    address = "http://prometheus:9090/api/v1/query?" + urllib.parse.urlencode({"query": query})
    answer = json.loads(get(address)[1])
    return (answer["data"]["result"], None) if answer["status"] == "success" else ([], answer["error"])


def dashboards():
    """Every query of every panel: dashboard, panel, query."""
    for file in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")):
        board = json.loads(file.read_text())
        for variable in board["templating"]["list"]:
            query = variable["query"]
            if variable["type"] == "query":
                series = re.fullmatch(r"label_values\((.*), (\w+)\)", query["query"])
                yield file.stem, f"variable {variable['name']}", f"count by ({series[2]}) ({series[1]})"
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield file.stem, panel["title"], target["expr"]


def filled(query):
    """A query as Grafana sends it, with all values chosen."""
    for name in ("detector", "job", "instance"):
        query = query.replace(f"${name}", ".+")
    return query.replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$__interval", "15s")


def queries():
    say("dashboards and rules, asked of Prometheus:")
    asked, empty = 0, []
    for board, panel, query in dashboards():
        series, error = ask(filled(query))
        asked += 1
        if error:
            check(False, f"{board}: {panel}: {query}: {error}")
        numbers = [each for each in series if each["value"][1] != "NaN"]
        if not numbers:
            empty.append((board, panel, query))
    for board, panel, query in empty:
        why = WITHOUT.get(panel)
        say(f"  empty   {board}: {panel}: {query}{f' ({why})' if why else ''}")
        if why is None:
            failures.append(f"{panel} has no data")
    check(asked > 40 and all(panel in WITHOUT for _, panel, _ in empty), f"{asked} queries of dashboards, {len(empty)} without data now, all of which may have none")

    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    rules = [rule for group in rules for rule in group["rules"]]
    for rule in rules:
        _, error = ask(rule["expr"])
        if error:
            check(False, f"{rule['alert']}: {error}")
        for name in set(re.findall(r"\b(anomalyd_\w+|up)\b", rule["expr"])):
            if not ask(f"count({name})")[0]:
                check(False, f"{rule['alert']}: Prometheus has no {name}")
    loaded = json.loads(get("http://prometheus:9090/api/v1/rules")[1])["data"]["groups"]
    health = [rule["health"] for group in loaded for rule in group["rules"]]
    check(len(health) == len(rules) and all(each in ("ok", "unknown") for each in health), f"{len(rules)} rules: each can be asked, and has all of its metrics")
    firing = sorted({alert["labels"]["alertname"] for alert in json.loads(get("http://prometheus:9090/api/v1/alerts")[1])["data"]["alerts"] if alert["state"] == "firing"})
    check(not firing, f"no rule fires of a daemon that is well {firing or ''}")


def image(name):
    say(f"the image {name}:")
    inspect = json.loads(subprocess.run([*PODMAN, "image", "inspect", name], capture_output=True, text=True, check=True).stdout)[0]
    size, settings = inspect["Size"], inspect["Config"]
    check(size <= IMAGE_MAX, f"{size / 1e6:.1f} MB in all, at most {IMAGE_MAX / 1e6:.0f}")
    check(settings.get("User") == "65532:65532", "runs as a user without rights")
    labels = settings.get("Labels", {})
    wanted = ["title", "description", "licenses", "version", "revision"]
    check(all(f"org.opencontainers.image.{each}" in labels for each in wanted), "has OCI's labels")
    health = inspect.get("Healthcheck") or settings.get("Healthcheck") or {}
    check(health.get("Test") == ["CMD", "anomalyd", "healthcheck"], "has a health check")
    shell = subprocess.run([*PODMAN, "run", "--rm", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--entrypoint", "/bin/sh", name, "-c", "true"], capture_output=True, check=False)
    check(shell.returncode != 0, "has no shell")


def container(stack):
    name = "anomalyd-test-anomalyd"
    say("the container:")
    inspect = json.loads(subprocess.run([*PODMAN, "inspect", name], capture_output=True, text=True, check=True).stdout)[0]
    pid = inspect["State"]["Pid"]
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    check(status["Uid"].split() == ["65532"] * 4, "its process has user 65532")
    check(all(int(status[each], 16) == 0 for each in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")), "and no capabilities")
    check(status["NoNewPrivs"] == "1", "and cannot gain any")
    mounts = Path(f"/proc/{pid}/mounts").read_text().splitlines()
    root = next(line.split() for line in mounts if line.split()[1] == "/")
    check("ro" in root[3].split(","), "its root is read-only")
    healthy = subprocess.run([*PODMAN, "exec", name, "anomalyd", "healthcheck"], capture_output=True, text=True, check=False)
    check(healthy.returncode == 0, f"`anomalyd healthcheck` in it says that it is well {healthy.stderr.strip()}")
    memory(pid, inspect)


def memory(pid, inspect):
    wanted = inspect["HostConfig"]["Memory"]
    paths = {line.split(":")[1]: line.split(":")[2] for line in Path(f"/proc/{pid}/cgroup").read_text().split()}
    for limit, peak, group in (("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory" + paths.get("memory", "/?")), ("memory.max", "memory.peak", paths.get("", "/?").lstrip("/"))):
        folder = Path("/sys/fs/cgroup") / group
        if (folder / limit).is_file():
            most, used = int((folder / limit).read_text()), int((folder / peak).read_text()) if (folder / peak).is_file() else 0
            check(most == wanted and used < wanted, f"its memory is limited to {wanted / 2**20:.0f} MiB, and {used / 2**20:.0f} were used at most")
            return
    resident = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)["VmHWM"]
    used = int(resident.split()[0]) * 1024
    check(used < wanted, f"there is no cgroup that would hold its memory to {wanted / 2**20:.0f} MiB here; {used / 2**20:.0f} were used at most")


def stopped(stack):
    say("SIGTERM:")
    for name in ("anomalyd", "notify", "plant"):
        began = time.monotonic()
        if stack.image:
            subprocess.run([*PODMAN, "kill", "--signal", "TERM", f"anomalyd-test-{name}"], capture_output=True, check=True)
        else:
            stack.processes[name].terminate()
        try:
            code = stack.processes[name].wait(timeout=20)
        except subprocess.TimeoutExpired:
            code = "nothing"
        took = time.monotonic() - began
        check(code == 0 and took < STOP_MAX, f"{name} ends with {code} after {took:.1f} s")


def main():
    parse = argparse.ArgumentParser()
    for name in ("folder", "image", "binary", "libs"):
        parse.add_argument(f"--{name}")
    parse.add_argument("--shots", help="take pictures of the pages into this folder")
    options = parse.parse_args()
    stack = Stack(options.folder, options.image or None, options.binary, options.libs)
    stack.names()
    if stack.image:
        image(stack.image)
    else:
        say("the image: skipped, for there is none; the same services run by the binary itself")
    try:
        run(stack, options)
    except BaseException:
        for name in stack.processes:
            say(f"--- the end of {name}'s log:\n{stack.log(name)[-1500:]}")
        raise
    finally:
        stack.stop()
    if failures:
        raise SystemExit("FAILED: " + "; ".join(failures))


def fault():
    """The alert that tells of the plant's first fault, as a reader of Kafka has it."""
    read = ["kcat", "-C", "-b", "kafka:19092", "-t", "anomalyd.alerts", "-e", "-q", "-X", "isolation.level=read_committed"]
    for line in subprocess.run(read, capture_output=True, text=True, check=True).stdout.splitlines():
        alert = json.loads(line)
        if alert["event"] == "open" and alert["relevant_attribution"][:1] and alert["relevant_attribution"][0]["feature"] == "discharge_bar":
            return alert
    return None


def run(stack, options):
    began = time.monotonic()
    stack.start_all()
    say(f"services of deploy/compose.yaml: {', '.join(stack.processes)}; left out: {', '.join(stack.left_out)}")
    wait_for("/healthz", 60, lambda: get("http://anomalyd:9464/healthz")[0] == 200)
    wait_for("/readyz", 60, lambda: get("http://anomalyd:9464/readyz")[0] == 200)
    say(f"  ok      /healthz and /readyz answer 200 after {time.monotonic() - began:.0f} s")
    say(f"  ok      a model is in use after {wait_for('a model', 120, lambda: metric('anomalyd_model_version') >= 1 and time.monotonic() - began):.0f} s")
    subprocess.run(["kcat", "-P", "-b", "kafka:19092", "-t", "records"], input="not a record\n" * 3, text=True, capture_output=True, check=True)
    wait_for("a dead letter", 30, lambda: metric("anomalyd_records_dead_lettered_total") >= 3)
    say("  ok      what cannot be read is in the dead-letter topic")
    # Pump 2, whose discharge pressure goes wrong first.
    alert = wait_for("an alert of the plant's first fault", 180, fault)
    say(f"  ok      the first fault is told {time.monotonic() - began:.0f} s after the start: {alert['key']}, {alert['relevant_attribution'][0]['feature']}")
    episode = alert["id"]
    wait_for("the episode in Alertmanager", 60, lambda: any(each["labels"].get("episode") == episode for each in json.loads(get("http://alertmanager:9093/api/v2/alerts")[1])))
    say(f"  ok      Alertmanager has its episode, {episode}")
    tail = subprocess.run([options.binary, "episodes", "confirm", episode, "--brokers", "kafka:19092"], capture_output=True, text=True, env={**os.environ, **stack.services["anomalyd"]["environment"]}, check=False)
    check(tail.returncode == 0, f"somebody confirms it {tail.stderr.strip()}")
    time.sleep(35)
    consumed = metric("anomalyd_records_consumed_total")
    parts = sum(metric(f"anomalyd_records_{each}_total") for each in ("scored", "warming_up", "late", "dead_lettered"))
    check(consumed > 60_000 and consumed == parts, f"{consumed:.0f} records consumed, each of which became something")
    queries()
    if options.shots:
        for name, address in {"page": "anomalyd:9464/", "alertmanager": "alertmanager:9093/", "rules": "prometheus:9090/alerts"}.items():
            subprocess.run(["chromium", "--headless", "--no-sandbox", f"--screenshot={options.shots}/{name}.png", "--window-size=1400,1000", "--virtual-time-budget=8000", f"http://{address}"], capture_output=True, check=False)
    if stack.image:
        container(stack)
    stopped(stack)


if __name__ == "__main__":
    main()
