# make help says what there is.
SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)

# How long the demo lasts (until it is stopped, if left out), and the profile that it is built with.
FOR ?=
PROFILE ?= quick
# The demo shares the tests' build: dependencies are optimised there too, and nothing is built twice.
CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help demo demo-kafka test lint quality streams fleets services proofs fuzz chaos measure bench bench-kafka build deploy-test release docs clean-kafka

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: ## a plant with faults, an embedded broker, the real daemon: nothing else needed (FOR=90s ends it by itself)
	@scripts/bootstrap.sh
	$(CARGO) build --bin anomalyd
	target/debug/anomalyd demo $(if $(FOR),--for $(FOR))

demo-kafka: ## the same story on a real Apache Kafka, exactly once
	@scripts/bootstrap.sh tests
	$(CARGO) build --bin anomalyd
	scripts/kafka.sh with bash -c 'target/debug/anomalyd demo --brokers "$$ANOMALYD_TEST_BROKERS" $(if $(FOR),--for $(FOR))'

test: ## all tests; fetches and runs Apache Kafka for those that need one
	@scripts/bootstrap.sh tests
	@[ -n "$${ANOMALYD_TEST_BROKERS:-}" ] || scripts/kafka.sh fetch
	$(CARGO) test --no-fail-fast -p anomalyd -p anomalyd-supply

lint: ## formatting and clippy, warnings are errors
	@scripts/bootstrap.sh
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

quality: ## detection quality on labelled data, beside the peers' figures (needs the data sets; see docs/quality.md)
	@scripts/bootstrap.sh
	$(CARGO) build --profile $(PROFILE) --bin anomalyd
	@[ -x scripts/quality.sh ] || { echo "scripts/quality.sh is not there yet" >&2; exit 1; }
	scripts/quality.sh

streams: ## what is told of simulated streams of sixteen kinds under plain defaults (a quarter of an hour)
fleets: ## what is told of simulated fleets of seven kinds under plain defaults (ten minutes)
services: ## what is told of simulated services, jobs and devices of eleven kinds under plain defaults (five minutes)
streams fleets services:
	@scripts/bootstrap.sh
	$(CARGO) build --profile $(PROFILE) --bin anomalyd
	@[ -x target/quality-venv/bin/python ] || { python3 -m venv target/quality-venv && target/quality-venv/bin/pip install --quiet pandas scikit-learn; }
	target/quality-venv/bin/python scripts/$@.py --bin target/$(PROFILE)/anomalyd

proofs: ## the promises about false alarms and training, by simulation with fixed seeds, with their figures (minutes)
	@scripts/bootstrap.sh
	$(CARGO) test --lib proof_ -- --include-ignored --nocapture

fuzz: ## ten thousand damaged model files, manifests and state entries, and long runs of what `make test` does shortly (minutes, fixed seeds)
	@scripts/bootstrap.sh
	$(CARGO) test --lib fuzz_ -- --include-ignored --nocapture

chaos: ## transactions whose answers a proxy loses, processes killed and paused, a broker frozen and restarted, then the program itself on three brokers, and a full disk, seed after seed (CHAOS_MINUTES=10 each; goes on behind target/chaos*.txt)
	@scripts/bootstrap.sh tests
	scripts/kafka.sh fetch
	$(CARGO) test --test kafka_real chaos_of_lost_answers -- --ignored --exact --nocapture
	$(CARGO) test --test kafka_real chaos::chaos -- --ignored --exact --nocapture
	$(CARGO) test --test kafka_real three::chaos_of_three_brokers -- --ignored --exact --nocapture
	$(CARGO) test --test kafka_real full_disk:: -- --ignored --nocapture

measure: ## the figures of state in docs/reliability.md: memory, snapshots and restarts with 100,000 keys
	@scripts/bootstrap.sh
	$(CARGO) test --test scale -- --include-ignored --nocapture

bench: ## benchmarks with fixed seeds
	@scripts/bootstrap.sh
	$(CARGO) bench --profile $(PROFILE) --bench decode --bench stage --bench models

bench-kafka: ## throughput and alert latency of the daemon on a real Kafka, beside consuming and decoding alone
	@scripts/bootstrap.sh tests
	@[ -n "$${ANOMALYD_TEST_BROKERS:-}" ] || scripts/kafka.sh fetch
	$(CARGO) bench --profile $(PROFILE) --bench throughput

deploy-test: ## the image, the services of compose.yaml with a real Kafka, Prometheus and Alertmanager, and the Helm chart, tried (root; a quarter of an hour)
	@scripts/bootstrap.sh tests
	PROFILE=$(PROFILE) scripts/deploy-test.sh

build: ## a debug build
	@scripts/bootstrap.sh
	$(CARGO) build

release: ## what is given out, in target/dist: binary with bill of materials (CycloneDX) and notices, checksums (SIGN_KEY=a key of gpg signs them, IMAGE=a name saves it beside)
	@scripts/bootstrap.sh
	if cargo auditable --version >/dev/null 2>&1; then $(CARGO) auditable build --locked --release --bin anomalyd; else $(CARGO) build --locked --release --bin anomalyd; fi
	scripts/release.sh target/release/anomalyd target/dist

docs: ## write docs/configuration.md and docs/metrics.md from the code
	ANOMALYD_WRITE_DOCS=1 $(CARGO) test --test documents

clean-kafka: ## remove the fetched Apache Kafka
	rm -rf .kafka
