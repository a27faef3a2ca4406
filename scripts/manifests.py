"""Holds rendered manifests against Kubernetes' schemas, and against what the chart promises: manifests.py FILE ..."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_validate
import yaml

VERSIONS = ["1.27", "1.33"]
# Kinds of others, which Kubernetes has no schemas of; what can be said of them is said below.
FOREIGN = {"PodMonitor", "PrometheusRule", "ScaledObject"}
problems = []


def require(holds, text):
    if not holds:
        problems.append(text)


def pods(manifest):
    return [manifest["spec"]["template"]["spec"]] if manifest["kind"] in ("StatefulSet", "Deployment") else []


def hardened(name, pod):
    require(pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"], f"{name}: the pod's rights")
    for container in pod["containers"] + pod.get("initContainers", []):
        rights = container["securityContext"]
        held = rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"] and rights["capabilities"]["drop"] == ["ALL"]
        require(held, f"{name}: the rights of {container['name']}")
        require("memory" in container["resources"]["limits"], f"{name}: {container['name']} has no limit of memory")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        require(mounted == {volume["name"] for volume in pod["volumes"]}, f"{name}: volumes and mounts of {container['name']} differ")
    for container in pod["containers"]:
        probes = (container["livenessProbe"]["httpGet"]["path"], container["readinessProbe"]["httpGet"]["path"])
        require(probes == ("/healthz", "/readyz"), f"{name}: probes {probes}")


def foreign(name, manifest, manifests):
    kind, spec = manifest["kind"], manifest.get("spec", {})
    if kind == "PrometheusRule" and shutil.which("promtool"):
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            yaml.safe_dump(spec, file)
            file.flush()
            said = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True, check=False)
        require(said.returncode == 0, f"{name}: {said.stdout}{said.stderr}")
        own = next(each for each in manifests if each["kind"] == "StatefulSet")["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
        down = next(rule for group in spec["groups"] for rule in group["rules"] if rule["alert"] == "AnomalydDown")
        require(f'job="{own}"' in down["expr"], f"{name}: {down['expr']} is of another job than the pods': {own}")
    if kind in ("PodMonitor", "PodDisruptionBudget", "NetworkPolicy"):
        selects(name, spec.get("selector", spec.get("podSelector"))["matchLabels"], manifests)
    if kind == "ScaledObject":
        target = spec["scaleTargetRef"]
        scaled = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (target["kind"], target["name"])]
        require(len(scaled) == 1 and "replicas" not in scaled[0]["spec"], f"{name}: {target} is not there, or has replicas of its own")
        require(all(isinstance(value, str) for value in spec["triggers"][0]["metadata"].values()), f"{name}: KEDA's values are strings")


def selects(name, labels, manifests):
    found = [each for each in manifests if pods(each) and labels.items() <= each["spec"]["template"]["metadata"]["labels"].items()]
    require(found, f"{name}: selects no pod by {labels}")


def configured(file, manifests):
    """The configuration that the pods read is one, if the program is at hand."""
    program = next((path for path in ("target/quick/anomalyd", "target/debug/anomalyd", "target/release/anomalyd") if Path(path).exists()), None)
    if program is None:
        return
    config = next(each for each in manifests if each["kind"] == "ConfigMap" and "anomalyd.toml" in each["data"])["data"]["anomalyd.toml"]
    for manifest in manifests:
        for pod in pods(manifest):
            settings = [each.replace("$(POD_NAME)", "fleet-0") for each in pod["containers"][0]["args"] if each.startswith("--set")]
            with tempfile.TemporaryDirectory() as folder:
                own = Path(folder) / "anomalyd.toml"
                own.write_text(config.replace("/run/secrets", folder))
                for secret in ("kafka-credentials/password",):
                    (Path(folder) / secret).parent.mkdir()
                    (Path(folder) / secret).write_text("x")
                said = subprocess.run([program, "validate", "--config", f"deploy/container.toml,{own}", *settings], capture_output=True, text=True, env={"SLACK_URL": "https://hooks.slack.com/x"}, check=False)
            require(said.returncode == 0, f"{file}: the configuration of {manifest['metadata']['name']}: {said.stdout}{said.stderr}")


def main():
    for file in sys.argv[1:]:
        manifests = [each for each in yaml.safe_load_all(Path(file).read_text()) if each]
        names = [(each["kind"], each["metadata"]["name"]) for each in manifests]
        require(len(set(names)) == len(names), f"{file}: two manifests of one name")
        for manifest in manifests:
            name = f"{Path(file).name}: {manifest['kind']} {manifest['metadata']['name']}"
            if manifest["kind"] not in FOREIGN:
                for version in VERSIONS:
                    try:
                        kubernetes_validate.validate(manifest, version, strict=True)
                    except kubernetes_validate.ValidationError as error:
                        problems.append(f"{name}: Kubernetes {version}: {error}")
            for pod in pods(manifest):
                hardened(name, pod)
            foreign(name, manifest, manifests)
            if manifest["kind"] == "ConfigMap":
                for key, text in manifest["data"].items():
                    if key.endswith(".json"):
                        json.loads(text)
        configured(file, manifests)
        print(f"helm: {Path(file).name}: {len(manifests)} manifests: {', '.join(sorted({kind for kind, _ in names}))}")
    for problem in problems:
        print(f"FAILED: {problem}")
    sys.exit(1 if problems else 0)


main()
