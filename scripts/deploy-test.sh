#!/usr/bin/env bash
# Tries deploy/ against the real thing: deploy-test.sh [PART ...], all by default.
#
#   rules    promtool: the rules, a case for each, the configurations of Prometheus and Alertmanager
#   boards   the dashboards against Grafana's own types
#   helm     helm lint, template with several values, every manifest against Kubernetes' schemas
#   release  packs the binary twice, to the same bytes, with checksums that a key made for it signs
#   image    builds the image with podman (with WHOLE=1 all of it, else around a binary that is built outside)
#   stack    the services of deploy/compose.yaml without Docker, in a network of their own: a real Kafka, Prometheus and Alertmanager,
#            anomalyd in its container where `image` made one
#
# What is missing is installed by apt where it may be, else the part is skipped, with the reason.
# TOOLS names a folder for what is fetched or built (target/deploy), BINARY a program that is built already, IMAGE an image for `stack` that is.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=${TOOLS:-$PWD/target/deploy}
profile=${PROFILE:-quick}
image=${IMAGE:-localhost/anomalyd:test}
mkdir -p "$tools"
export PATH="$tools/bin:$PATH" DEBIAN_FRONTEND=noninteractive

say() { printf '%s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }
skip() { say "$1: skipped: $2"; skipped+=("$1"); }
skipped=()

install() { # PACKAGE ...: by apt, where that may be
  [ -z "${ANOMALYD_NO_INSTALL:-}" ] && have apt-get && [ "$(id -u)" = 0 ] || return 1
  local done
  done=$(apt-get install -y -qq --no-install-recommends "$@" 2>&1) \
    || { apt-get update -qq >/dev/null 2>&1; apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1; }
}

need() { # COMMAND PACKAGE ...
  local command=$1
  shift
  have "$command" || install "$@" || return 1
  have "$command"
}

binary() { # builds it, and says where it is
  [ -z "${BINARY:-}" ] || { printf '%s\n' "$BINARY"; return; }
  cargo build --quiet --profile "$profile" --bin anomalyd >&2
  local folder=$profile
  [ "$profile" = dev ] && folder=debug
  printf '%s/target/%s/anomalyd\n' "$PWD" "$folder"
}

rules() {
  need promtool prometheus || { skip rules "there is no promtool (Debian: prometheus)"; return; }
  say "rules:"
  promtool check config deploy/prometheus/prometheus.yml
  (cd deploy/prometheus && promtool test rules ./*.test.yml)
  if need amtool prometheus-alertmanager; then amtool check-config deploy/prometheus/alertmanager.yml; else skip amtool "there is none"; fi
}

boards() {
  have go || { skip boards "there is no Go to build what holds them against Grafana's types"; return; }
  (cd scripts/dashboards && go build -o "$tools/bin/dashboards" .) || { skip boards "Grafana's types cannot be had"; return; }
  dashboards deploy/grafana/dashboards/*.json
}

release() {
  local one=$tools/dist two=$tools/dist-again program home
  program=$(binary)
  home=$(mktemp -d)
  local key=''
  if need gpg gnupg; then
    key=deploy-test@localhost
    GNUPGHOME=$home gpg --batch --quiet --passphrase '' --quick-generate-key "$key" ed25519 sign 1d 2>/dev/null
  else
    skip signature "there is no gpg"
  fi
  GNUPGHOME=$home SIGN_KEY=$key scripts/release.sh "$program" "$one" >/dev/null
  SIGN_KEY='' scripts/release.sh "$program" "$two" >/dev/null
  diff "$one/SHA256SUMS" "$two/SHA256SUMS" || { say "FAILED: the same binary gave another archive the second time"; exit 1; }
  (cd "$one" && sha256sum --check --quiet SHA256SUMS)
  [ -z "$key" ] || GNUPGHOME=$home gpg --batch --quiet --verify "$one/SHA256SUMS.asc" "$one/SHA256SUMS" 2>/dev/null || { say "FAILED: the signature is not good"; exit 1; }
  GNUPGHOME=$home gpgconf --kill gpg-agent 2>/dev/null || true
  rm -rf "$home"
  tar -C "$tools" -xzf "$one"/anomalyd-*.tar.gz
  "$tools"/anomalyd-*/anomalyd validate --config config/examples/minimal.toml >/dev/null
  say "release: $(cd "$one" && ls | tr '\n' ' ')"
  rm -rf "$tools"/anomalyd-* "$two"
}

# The images that the Dockerfile begins with: pulled, or made of Debian's packages and the toolchain that is here.
bases() {
  local base=docker.io/library/debian:bookworm-slim rust=docker.io/library/rust:1.95-slim-bookworm
  podman image exists "$base" || podman pull --quiet "$base" >/dev/null 2>&1 || {
    need debootstrap debootstrap || return 1
    say "image: no registry is in reach: the base image is made by debootstrap"
    rm -rf "$tools/base"
    debootstrap --variant=minbase bookworm "$tools/base" >"$tools/debootstrap.log" 2>&1 || return 1
    tar -C "$tools/base" -c . | podman import --quiet - "$base" >/dev/null
    rm -rf "$tools/base"
  }
  [ -z "${WHOLE:-}" ] || podman image exists "$rust" || podman pull --quiet "$rust" >/dev/null 2>&1 || {
    local sysroot context=$tools/rust
    sysroot=$(rustc --print sysroot)
    say "image: the image of Rust is made of the toolchain that is here"
    mkdir -p "$context"
    # It trusts whom this machine trusts, whose network may have a certificate of its own.
    printf 'FROM %s\nCOPY . /usr/local/\nCOPY --from=trusted ca-certificates.crt /etc/ssl/trusted.crt\nENV CARGO_HOME=/usr/local/cargo CARGO_HTTP_CAINFO=/etc/ssl/trusted.crt\n' \
      "$base" >"$context/Dockerfile"
    podman "${runtime[@]}" build --quiet --network=host --build-context trusted=/etc/ssl/certs -f "$context/Dockerfile" -t "$rust" --ignorefile /dev/null "$sysroot" >/dev/null
  }
}

build_image() {
  runtime=()
  need podman podman buildah || { skip image "there is no podman"; return 1; }
  if need runc runc; then runtime=(--runtime "$(command -v runc)"); fi
  # shellcheck disable=SC1091
  [ -n "${WHOLE:-}" ] || [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = bookworm ] \
    || { say "image: this is not Debian 12, so that a binary from here would not run in it: WHOLE=1"; WHOLE=1; }
  bases || { skip image "its base can neither be pulled nor made"; return 1; }
  local build=(podman "${runtime[@]}" build --format docker --network=host --timestamp 0 -f deploy/Dockerfile)
  local revision; revision=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
  build+=(--build-arg "REVISION=$revision")
  if [ -z "${WHOLE:-}" ]; then
    # In place of the stage `build`: what it would have made.
    mkdir -p "$tools/built/out"
    strip -o "$tools/built/out/anomalyd" "$(binary)"
    cargo run --quiet --locked -p anomalyd-supply -- "$tools/built/out"
    cp LICENSE-APACHE LICENSE-MIT "$tools/built/out/"
    build+=(--build-context "build=$tools/built")
  fi
  "${build[@]}" -t "$image" . >"$tools/image.log" 2>&1 || { tail -30 "$tools/image.log"; say "FAILED: the image cannot be built"; exit 1; }
  if [ -z "${WHOLE:-}" ]; then
    "${build[@]}" --no-cache -t "$image-again" . >>"$tools/image.log" 2>&1
    local layers='{{range .RootFS.Layers}}{{.}} {{end}}'
    [ "$(podman image inspect --format "$layers" "$image")" = "$(podman image inspect --format "$layers" "$image-again")" ] \
      || { say "FAILED: the same binary gave another image the second time"; exit 1; }
    say "image: built twice, the same bytes"
  fi
}

stack() {
  need unshare util-linux || { skip stack "there is no unshare"; return; }
  [ "$(id -u)" = 0 ] || { skip stack "a network of its own needs root"; return; }
  need java openjdk-17-jre-headless || { skip stack "there is no Java for Kafka"; return; }
  /usr/bin/python3 -c 'import yaml' 2>/dev/null || install python3-yaml || { skip stack "python3 has no yaml"; return; }
  need prometheus prometheus || { skip stack "there is no Prometheus"; return; }
  have alertmanager || have prometheus-alertmanager || install prometheus-alertmanager || { skip stack "there is no Alertmanager"; return; }
  need kcat kcat || { skip stack "there is no kcat"; return; }
  need ip iproute2 || { skip stack "there is no ip"; return; }
  scripts/kafka.sh fetch
  local libs=${ANOMALYD_KAFKA_CACHE:-$PWD/.kafka}/libs-${KAFKA_VERSION:-4.3.0}
  [ -z "${KAFKA_HOME:-}" ] || libs=$KAFKA_HOME/libs
  local folder; folder=$(mktemp -d "${TMPDIR:-/tmp}/anomalyd-deploy.XXXXXX")
  local options=(--folder "$folder" --binary "$(binary)" --libs "$libs")
  [ -z "$built" ] || options+=(--image "$image")
  [ -z "${SHOTS:-}" ] || options+=(--shots "$SHOTS")
  local code=0
  unshare --mount --net bash -c 'ip link set lo up && exec /usr/bin/python3 scripts/deploy_test.py "$@"' - "${options[@]}" || code=$?
  [ "$code" = 0 ] && rm -rf "$folder" || say "logs are in $folder"
  return "$code"
}

parts=("$@")
[ $# -gt 0 ] || parts=(rules boards helm release image stack)
built=${IMAGE:+1}
for part in "${parts[@]}"; do
  case $part in
    rules) rules ;;
    boards) boards ;;
    release) release ;;
    helm) scripts/helm-test.sh "$tools" || { code=$?; [ "$code" = 77 ] && skipped+=(helm) || exit "$code"; } ;;
    image) if build_image; then built=1; fi ;;
    stack) stack ;;
    *) sed -n '2,13p' "$0" | sed 's/^# \{0,1\}//'; exit 64 ;;
  esac
done
say "deploy-test: ${parts[*]}: ok${skipped[*]:+; skipped: ${skipped[*]}}"
