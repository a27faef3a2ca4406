#!/usr/bin/env bash
# A real Apache Kafka for tests and demos, from Maven coordinates, below .kafka/ (which git ignores).
#
#   scripts/kafka.sh fetch                 fetch the jars (once per version)
#   scripts/kafka.sh start DIR [N] [PID]   start N brokers (1 or 3), data in DIR; prints the bootstrap servers.
#                                          With PID the brokers are stopped, and DIR removed, when that process ends.
#   scripts/kafka.sh stop DIR              stop them
#   scripts/kafka.sh again DIR [NODE]      start those again that `stop` or a kill ended, or one of them, on the same ports with the same data
#   scripts/kafka.sh with COMMAND ...      start one, run COMMAND with ANOMALYD_TEST_BROKERS set, stop it
#
# KAFKA_VERSION  which version to fetch (4.3.0)      KAFKA_HOME  an unpacked Kafka to use instead of fetching
# KAFKA_ADVERTISED  host:port that a single broker tells its clients instead of its own: a proxy's
# KAFKA_OAUTH=1  a single broker has a second listener, for OAUTHBEARER; DIR/oauth has its address. Tokens need no signature.
# ANOMALYD_TEST_BROKERS  a running broker: `start` and `with` use it and start nothing
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
version=${KAFKA_VERSION:-4.3.0}
cache=${ANOMALYD_KAFKA_CACHE:-$root/.kafka}
heap=${KAFKA_HEAP:-384m}

say() { printf 'kafka.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

libs() {
  if [ -n "${KAFKA_HOME:-}" ]; then echo "$KAFKA_HOME/libs"; else echo "$cache/libs-$version"; fi
}

need() {
  command -v "$1" >/dev/null || die "$1 is missing: install $2 (for example: apt-get install -y $2), or set KAFKA_HOME, or name a running broker in ANOMALYD_TEST_BROKERS"
}

fetch() {
  need java openjdk-17-jre-headless
  local to; to=$(libs)
  [ -n "${KAFKA_HOME:-}" ] && { [ -d "$to" ] || die "KAFKA_HOME has no libs folder: $to"; return 0; }
  [ -f "$to/.complete" ] && return 0
  need mvn maven
  mkdir -p "$cache"
  exec 8>"$cache/.lock"; flock 8
  [ -f "$to/.complete" ] && return 0
  say "fetching Apache Kafka $version (54 MB, once)"
  rm -rf "$to"
  mvn -q -B -f "$root/tests/kafka/pom.xml" -P"kafka-${version%%.*}" -Dkafka.version="$version" \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$to" >&2
  touch "$to/.complete"
  exec 8>&-
}

open_port() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() { # but none of these
  local port
  for _ in $(seq 100); do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    [[ " $* " == *" $port "* ]] || open_port "$port" || { echo "$port"; return; }
  done
  die "no free port"
}

java_kafka() {
  local log="-Dlog4j2.configurationFile=file:$root/tests/kafka/log4j2.properties"
  [ "${version%%.*}" = 3 ] && log="-Dlog4j.configuration=file:$root/tests/kafka/log4j.properties"
  # With COLUMNS set StorageTool crashes.
  env -u COLUMNS java -cp "$(libs)/*" "$log" "$@"
}

oauth() { # its port, port, controller_port
  cat <<PROPERTIES
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3,OAUTH://127.0.0.1:$1
advertised.listeners=PLAINTEXT://127.0.0.1:$2,OAUTH://127.0.0.1:$1
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,OAUTH:SASL_PLAINTEXT
listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.oauth.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
PROPERTIES
}

properties() { # node port controller_port voters replication min_isr dir
  cat <<PROPERTIES
process.roles=broker,controller
node.id=$1
controller.quorum.voters=$4
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
advertised.listeners=PLAINTEXT://${KAFKA_ADVERTISED:-127.0.0.1:$2}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$7
auto.create.topics.enable=false
default.replication.factor=$5
min.insync.replicas=$6
offsets.topic.replication.factor=$5
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$5
transaction.state.log.min.isr=$6
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
PROPERTIES
  # Rights can be taken away on a single broker alone: several controllers could not vote before they know the rights.
  # And one that was frozen for a while goes on as it was: nobody else could lead its partitions, and a leader that goes and comes back can
  # lose the ends of transactions (KAFKA-20734).
  if [ "$5" = 1 ]; then
    cat <<PROPERTIES
broker.session.timeout.ms=60000
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
PROPERTIES
  fi
  if [ "${version%%.*}" != 3 ]; then
    cat <<PROPERTIES
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=3000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=1000
PROPERTIES
  fi
}

launch() { # dir node
  local dir=$1 node=$2
  (
    log="-Dlog4j2.configurationFile=file:$root/tests/kafka/log4j2.properties"
    [ "${version%%.*}" = 3 ] && log="-Dlog4j.configuration=file:$root/tests/kafka/log4j.properties"
    exec setsid env -u COLUMNS java "-Xms$heap" "-Xmx$heap" -XX:+UseSerialGC -cp "$(libs)/*" "$log" \
      "-Dkafka.logs.dir=$dir" kafka.Kafka "$dir/server-$node.properties"
  ) >>"$dir/broker-$node.log" 2>&1 </dev/null &
  # A line for each node.
  { [ "$node" = 1 ] || head -n $((node - 1)) "$dir/pids"; echo $!; tail -n +$((node + 1)) "$dir/pids"; } >"$dir/pids.new"
  mv "$dir/pids.new" "$dir/pids"
}

await() { # dir node port
  local dir=$1 node=$2 port=$3 waited=0
  until open_port "$port"; do
    sleep 0.1; waited=$((waited + 1))
    [ "$waited" -lt 900 ] || { tail -20 "$dir/broker-$node.log" >&2; stop "$dir"; die "broker $node did not start within 90 s"; }
    kill -0 "$(sed -n "${node}p" "$dir/pids")" 2>/dev/null || { tail -20 "$dir/broker-$node.log" >&2; die "broker $node ended"; }
  done
}

again() {
  local dir=$1 one=${2:-} file node port
  [ -n "$one" ] || : >"$dir/pids"
  for file in "$dir"/server-${one:-*}.properties; do
    node=${file##*/server-}; node=${node%.properties}
    launch "$dir" "$node"
  done
  for file in "$dir"/server-${one:-*}.properties; do
    node=${file##*/server-}; node=${node%.properties}
    port=$(sed -n 's/^listeners=PLAINTEXT:.*:\([0-9]*\),CONTROLLER.*/\1/p' "$file")
    await "$dir" "$node" "$port"
  done
  cat "$dir/bootstrap"
}

start() {
  local dir=$1 count=${2:-1} parent=${3:-}
  if [ -n "${ANOMALYD_TEST_BROKERS:-}" ]; then echo "$ANOMALYD_TEST_BROKERS"; return; fi
  fetch
  mkdir -p "$dir"; dir=$(cd "$dir" && pwd)
  local id voters='' bootstrap='' replication=1 min_isr=1 node
  [ "$count" = 3 ] && { replication=3; min_isr=2; }
  id=$(java_kafka kafka.tools.StorageTool random-uuid 2>/dev/null | tail -1)
  local -a ports controllers
  for node in $(seq "$count"); do
    ports[node]=$(free_port "${ports[@]}" "${controllers[@]}")
    controllers[node]=$(free_port "${ports[@]}" "${controllers[@]}")
    voters+="${voters:+,}$node@127.0.0.1:${controllers[node]}"
    bootstrap+="${bootstrap:+,}127.0.0.1:${ports[node]}"
  done
  : >"$dir/pids"
  for node in $(seq "$count"); do
    properties "$node" "${ports[node]}" "${controllers[node]}" "$voters" "$replication" "$min_isr" "$dir/data-$node" \
      >"$dir/server-$node.properties"
    java_kafka kafka.tools.StorageTool format -t "$id" -c "$dir/server-$node.properties" >"$dir/format-$node.log" 2>&1 \
      || die "cannot format: $(tail -5 "$dir/format-$node.log")"
    if [ -n "${KAFKA_OAUTH:-}" ]; then
      local port; port=$(free_port "${ports[@]}" "${controllers[@]}")
      # The last of two lines wins.
      oauth "$port" "${ports[node]}" "${controllers[node]}" >>"$dir/server-$node.properties"
      echo "127.0.0.1:$port" >"$dir/oauth"
    fi
    launch "$dir" "$node"
  done
  for node in $(seq "$count"); do
    await "$dir" "$node" "${ports[node]}"
  done
  echo "$bootstrap" >"$dir/bootstrap"
  if [ -n "$parent" ]; then
    (
      while kill -0 "$parent" 2>/dev/null; do sleep 1; done
      kill -9 $(cat "$dir/pids") 2>/dev/null || true
      rm -rf "$dir"
    ) >/dev/null 2>&1 </dev/null &
    disown
  fi
  echo "$bootstrap"
}

stop() {
  local dir=$1 pid
  [ -f "$dir/pids" ] || return 0
  while read -r pid; do kill "$pid" 2>/dev/null || true; done <"$dir/pids"
  # Long: a broker that is killed does not come back in order.
  for _ in $(seq 300); do
    local alive=0
    while read -r pid; do kill -0 "$pid" 2>/dev/null && alive=1; done <"$dir/pids"
    [ "$alive" = 0 ] && break
    sleep 0.1
  done
  while read -r pid; do kill -9 "$pid" 2>/dev/null || true; done <"$dir/pids"
  rm -f "$dir/pids"
}

case "${1:-}" in
  fetch) fetch ;;
  start) shift; [ $# -ge 1 ] || die "start needs a folder"; start "$@" ;;
  again) shift; [ $# -ge 1 ] || die "again needs a folder"; again "$@" ;;
  stop) shift; [ $# -ge 1 ] || die "stop needs a folder"; stop "$1" ;;
  with)
    shift; [ $# -ge 1 ] || die "with needs a command"
    dir=$(mktemp -d "${TMPDIR:-/tmp}/anomalyd-kafka.XXXXXX")
    trap 'stop "$dir"; rm -rf "$dir"' EXIT
    brokers=$(start "$dir" "${KAFKA_BROKERS:-1}")
    say "Apache Kafka $version at $brokers"
    ANOMALYD_TEST_BROKERS=$brokers "$@"
    ;;
  *) sed -n '2,15p' "$0" | sed 's/^# \{0,1\}//'; exit 64 ;;
esac
