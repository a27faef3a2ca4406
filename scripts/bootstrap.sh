#!/usr/bin/env bash
# What a build needs, on a machine with git and rustup: installs it by apt where it may, else says exactly what is missing.
#
#   scripts/bootstrap.sh          for building and the demo: a C and C++ compiler, make, pkg-config, OpenSSL, a Rust toolchain
#   scripts/bootstrap.sh tests    and for the tests: Java 17 or later and Maven, which fetch and run Apache Kafka; numpy for Python, if it can be had
#
# KAFKA_HOME (an unpacked Apache Kafka) makes Maven unnecessary, ANOMALYD_TEST_BROKERS (a running one) Java too.
# ANOMALYD_NO_INSTALL=1 installs nothing and only says what is missing.
set -euo pipefail

say() { printf 'bootstrap: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

packages=()
extras=()
need() { # need PACKAGE if the command that follows fails
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || packages+=("$package")
}

wish() { # wish PACKAGE if the command that follows fails: a test is skipped without it, and says so
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || extras+=("$package")
}

has_header() { echo "#include <$1>" | cc -E - ; }

has_numpy() { # as tests/elsewhere.rs looks for it
  local python
  for python in "${ANOMALYD_PYTHON:-}" python3 /usr/bin/python3 target/quality-venv/bin/python; do
    [ -n "$python" ] && "$python" -c 'import numpy' && return
  done
  return 1
}

java_is_new() {
  local version
  version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)
  [ "${version:-0}" -ge 17 ]
}

missing() {
  packages=()
  extras=()
  need gcc have cc
  need g++ have c++
  need make have make
  need pkg-config have pkg-config
  need libssl-dev has_header openssl/ssl.h
  [ "${1:-}" != tests ] || wish python3-numpy has_numpy
  if [ "${1:-}" = tests ] && [ -z "${ANOMALYD_TEST_BROKERS:-}" ]; then
    need openjdk-17-jre-headless java_is_new
    [ -n "${KAFKA_HOME:-}" ] || need maven have mvn
  fi
}

install() {
  local as=()
  [ "$(id -u)" = 0 ] || as=(sudo -n)
  export DEBIAN_FRONTEND=noninteractive
  # Debian's newest releases have no Java 17 any more: take their default then.
  "${as[@]}" apt-get update -qq || say "apt-get update failed; trying with the lists there are"
  local wanted=() package
  for package in "${packages[@]}"; do
    if [ "$package" = openjdk-17-jre-headless ] && ! apt-cache show "$package" >/dev/null 2>&1; then
      package=default-jre-headless
    fi
    wanted+=("$package")
  done
  say "installing ${wanted[*]}"
  "${as[@]}" apt-get install -y -qq --no-install-recommends "${wanted[@]}" >&2
}

may_install() {
  [ -z "${ANOMALYD_NO_INSTALL:-}" ] && have apt-get && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

missing "${1:-}"
if [ "${#packages[@]}" -gt 0 ]; then
  if may_install; then
    install || say "the installation failed"
    missing "${1:-}"
  fi
  if [ "${#packages[@]}" -gt 0 ]; then
    say "missing: ${packages[*]}"
    say "on Debian or Ubuntu: apt-get install -y ${packages[*]}"
    say "elsewhere: a C and C++ compiler, make, pkg-config, OpenSSL's headers; for the tests Java 17 or later and Maven"
    exit 1
  fi
fi

if [ "${#extras[@]}" -gt 0 ] && may_install; then
  packages=("${extras[@]}")
  install || say "going on without ${extras[*]}"
fi

if ! have cargo; then
  # rustup's usual place, when the shell was not started anew after its installation.
  [ -x "$HOME/.cargo/bin/cargo" ] || { say "missing: cargo; install rustup from https://rustup.rs"; exit 1; }
  PATH="$HOME/.cargo/bin:$PATH"
fi
if ! cargo --version >/dev/null 2>&1; then
  say "installing the stable Rust toolchain"
  rustup toolchain install stable --profile minimal --component rustfmt --component clippy >&2
  rustup default stable >&2
fi

# The oldest compiler that the code builds with, from Cargo.toml; `rustc --version` is that of the toolchain which cargo would use here.
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
found=$(rustc --version | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -1)" != "$wanted" ]; then
  say "Rust $found is too old: $wanted or later is needed"
  if have rustup; then
    say "run: rustup update stable && rustup default stable"
  else
    say "install a newer one, for example by rustup from https://rustup.rs"
  fi
  exit 1
fi
