#!/usr/bin/env bash
# The Helm chart: helm-test.sh TOOLS. Lints it, renders it with several values, and holds every manifest against Kubernetes' schemas, strictly.
# TOOLS is a folder for helm and the validator, where they are not installed. 77: skipped, with the reason.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$1
chart=deploy/helm/anomalyd
mkdir -p "$tools/bin"
export PATH="$tools/bin:$PATH"
skip() { printf 'helm: skipped: %s\n' "$*"; exit 77; }
fail() { printf 'FAILED: helm: %s\n' "$*"; exit 1; }

if ! command -v helm >/dev/null; then
  command -v go >/dev/null || skip "there is neither helm nor Go to build it"
  echo "helm: building it, once (minutes)"
  GOBIN="$tools/bin" go install helm.sh/helm/v3/cmd/helm@v3.18.6 >"$tools/helm.log" 2>&1 || skip "it cannot be built: $(tail -1 "$tools/helm.log")"
fi
if [ ! -x "$tools/venv/bin/kubernetes-validate" ]; then
  python3 -m venv "$tools/venv" && "$tools/venv/bin/pip" install --quiet kubernetes-validate \
    || skip "kubernetes-validate cannot be installed"
fi

rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT
# Links into deploy/prometheus and deploy/grafana are meant; helm speaks of each.
quietly() { "$@" 2> >(grep -v 'found symbolic link' >&2); }
render() { quietly helm template fleet "$chart" --namespace plant --kube-version 1.33.0 "$@"; }

for values in "" "$chart"/ci/*.yaml; do
  name=${values##*/}; name=${name%.yaml}; name=${name:-defaults}
  options=(${values:+--values "$values"})
  quietly helm lint --strict --quiet --kube-version 1.33.0 "$chart" "${options[@]}" || fail "lint with $name"
  render "${options[@]}" >"$rendered/$name.yaml" || fail "template with $name"
done
"$tools/venv/bin/python" scripts/manifests.py "$rendered"/*.yaml || fail "manifests"

# What the schema of the values is there for.
for wrong in replicas=-1 replica=2 image.pullPolicy=Sometimes sessionTimeout=long networkPolicy.egressPorts[0]=0 terminationGracePeriodSeconds=1; do
  if render --set "$wrong" >/dev/null 2>&1; then fail "$wrong is taken"; fi
done
echo "helm: values that are wrong are refused"

quietly helm package "$chart" --destination "$rendered" >/dev/null || fail "package"
[[ $(tar -tzf "$rendered"/anomalyd-*.tgz) == *files/dashboards/anomalyd-detection.json* ]] || fail "the package has no dashboards"
