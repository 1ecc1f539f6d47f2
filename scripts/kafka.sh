#!/usr/bin/env bash
# One Apache Kafka broker on loopback for tests and benchmarks, and the stock command-line clients.
# Needs Java 17 or later and Maven, nothing else: the jars pinned in kafka/pom.xml are fetched once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pom=$here/kafka/pom.xml
# Any 16 bytes in URL-safe base64.
cluster_id=RHJpZnRsaW5lVGVzdHMhIQ
started='Kafka Server started'

usage() {
  cat <<'TEXT'
scripts/kafka.sh COMMAND

  start [--keep] [--port N] DIR   start a broker; DIR gets its data, log, pid and address.
                                  --keep: go on with the data and port that DIR holds.
  stop DIR                        stop it, gently if it lets itself be
  kill DIR                        kill -9, as a crash
  bootstrap DIR                   print host:port
  classpath                       print the class path of all jars, fetching them if need be

  produce DIR TOPIC [--key-separator S] [--acks N]      lines of standard input become records
  consume DIR TOPIC [options of kafka-console-consumer] records become lines; stops when none come for 5 s,
                                  or as --timeout-ms says; add --isolation-level read_committed
  topics DIR [options of kafka-topics]
  groups DIR [options of kafka-consumer-groups]
  get-offsets DIR [options of kafka-get-offsets]

DRIFTLINE_KAFKA_CACHE (default ~/.cache/driftline/kafka) holds the jars.
TEXT
}

fail() {
  echo "kafka.sh: $*" >&2
  exit 1
}

need_java() {
  command -v java >/dev/null || fail "java is missing: install a Java 17 runtime (Debian: openjdk-17-jre-headless)"
}

# The directory with the jars of this very pom.xml.
jars() {
  local cache=${DRIFTLINE_KAFKA_CACHE:-$HOME/.cache/driftline/kafka} version directory fresh
  version=$(sha256sum "$pom" | cut -c1-12)
  directory=$cache/$version
  if [[ ! -d $directory ]]; then
    command -v mvn >/dev/null || fail "mvn is missing: install Maven (Debian: maven) to fetch Kafka's jars"
    mkdir -p "$cache"
    fresh=$(mktemp -d "$cache/fetching.XXXXXX")
    echo "kafka.sh: fetching Kafka's jars into $directory" >&2
    if ! mvn -q -B -f "$pom" dependency:copy-dependencies "-DoutputDirectory=$fresh" -DincludeScope=runtime >&2; then
      rm -rf "$fresh"
      fail "Maven could not fetch the jars"
    fi
    # Whoever comes second finds the first one's directory and throws its own away.
    mv -T "$fresh" "$directory" 2>/dev/null || rm -rf "$fresh"
  fi
  echo "$directory"
}

# A stock tool: quiet, with a small heap, quick to start.
tool() {
  local class=$1
  shift
  need_java
  local directory
  directory=$(jars)
  exec java -Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=off \
    -cp "$directory/*" "$class" "$@"
}

bootstrap_of() {
  [[ -f $1/bootstrap ]] || fail "no broker was started in $1"
  cat "$1/bootstrap"
}

is_running() {
  [[ -f $1/pid ]] && kill -0 "$(cat "$1/pid")" 2>/dev/null
}

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}

write_properties() {
  local state=$1 port=$2 controller_port=$3
  cat >"$state/server.properties" <<TEXT
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$state/data
num.partitions=1
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
TEXT
}

start() {
  local keep=false port='' state='' controller_port directory pid
  while (($#)); do
    case $1 in
      --keep) keep=true ;;
      --port)
        port=${2:?--port needs a number}
        shift
        ;;
      -*) fail "start: unknown option $1" ;;
      *) state=$1 ;;
    esac
    shift
  done
  [[ -n $state ]] || fail "start: which directory?"
  need_java
  directory=$(jars)
  mkdir -p "$state"
  state=$(cd "$state" && pwd)
  if is_running "$state"; then fail "a broker is running in $state already"; fi
  if $keep; then
    [[ -f $state/data/meta.properties ]] || fail "$state holds no data to keep"
  else
    # Only what an earlier start has made.
    if [[ -f $state/data/meta.properties ]]; then rm -rf "$state/data"; fi
    port=${port:-$(free_port)}
    controller_port=$(free_port)
    while [[ $controller_port == "$port" ]]; do controller_port=$(free_port); done
    write_properties "$state" "$port" "$controller_port"
    echo "127.0.0.1:$port" >"$state/bootstrap"
    echo "$port" >"$state/port"
    java -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=off -cp "$directory/*" \
      kafka.tools.StorageTool format -t "$cluster_id" -c "$state/server.properties" >"$state/format.log" 2>&1 ||
      fail "formatting failed: $(cat "$state/format.log")"
  fi
  setsid java -Xms256m -Xmx1g -XX:+UseParallelGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -Dorg.slf4j.simpleLogger.showDateTime=true -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info \
    -cp "$directory/*" kafka.Kafka "$state/server.properties" >"$state/broker.log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$state/pid"
  for _ in $(seq 600); do
    if grep -q "$started" "$state/broker.log"; then
      bootstrap_of "$state"
      return
    fi
    kill -0 "$pid" 2>/dev/null || fail "the broker ended: $(tail -n 20 "$state/broker.log")"
    sleep 0.1
  done
  kill -KILL "$pid"
  fail "the broker did not start within 60 s: $(tail -n 20 "$state/broker.log")"
}

# end SIGNAL DIR
end() {
  local signal=$1 state=${2:?which directory?} pid
  if ! is_running "$state"; then
    rm -f "$state/pid"
    return
  fi
  pid=$(cat "$state/pid")
  kill "-$signal" "$pid"
  for _ in $(seq 300); do
    if ! kill -0 "$pid" 2>/dev/null; then
      rm -f "$state/pid"
      return
    fi
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$state/pid"
}

produce() {
  local bootstrap topic=${2:?which topic?} separator='' acks=1
  bootstrap=$(bootstrap_of "$1")
  shift 2
  while (($#)); do
    case $1 in
      --key-separator) separator=${2:?} ;;
      --acks) acks=${2:?} ;;
      *) fail "produce: unknown option $1" ;;
    esac
    shift 2
  done
  local options=(--bootstrap-server "$bootstrap" --topic "$topic" --request-required-acks "$acks"
    --producer-property linger.ms=20 --producer-property batch.size=262144
    --producer-property compression.type=lz4 --producer-property buffer.memory=67108864)
  if [[ -n $separator ]]; then
    options+=(--property parse.key=true --property "key.separator=$separator")
  fi
  tool org.apache.kafka.tools.ConsoleProducer "${options[@]}"
}

consume() {
  local bootstrap topic=${2:?which topic?}
  bootstrap=$(bootstrap_of "$1")
  shift 2
  local options=(--bootstrap-server "$bootstrap" --topic "$topic" --from-beginning)
  [[ " $* " == *" --timeout-ms "* ]] || options+=(--timeout-ms 5000)
  tool org.apache.kafka.tools.consumer.ConsoleConsumer "${options[@]}" "$@"
}

command=${1:-help}
shift || true
case $command in
  start) start "$@" ;;
  stop) end TERM "$@" ;;
  kill) end KILL "$@" ;;
  bootstrap) bootstrap_of "${1:?which directory?}" ;;
  classpath) echo "$(jars)/*" ;;
  produce) produce "$@" ;;
  consume) consume "$@" ;;
  topics | groups | get-offsets)
    bootstrap=$(bootstrap_of "${1:?which directory?}")
    shift
    case $command in
      topics) tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$bootstrap" "$@" ;;
      groups) tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --bootstrap-server "$bootstrap" "$@" ;;
      get-offsets) tool org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$bootstrap" "$@" ;;
    esac
    ;;
  help | --help | -h) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
