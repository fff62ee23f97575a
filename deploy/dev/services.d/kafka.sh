# shellcheck shell=bash
# Apache Kafka, one node in KRaft mode (no ZooKeeper), with jars from Maven Central: kafka.pom.xml says which.
# ZEGEL_KAFKA_PORT is its port, ZEGEL_KAFKA_HEAP the heap (512m), ZEGEL_KAFKA_SETTINGS further lines for
# server.properties, separated by semicolons, ZEGEL_KAFKA_JARS the folder that keeps the jars between runs.

dir=${dir:?is set by services}

kafka_pom() { echo "${here:?}/services.d/kafka.pom.xml"; }

kafka_user() {
  if [ "$(id -u)" = 0 ]; then echo nobody; else id -un; fi
}

# The jars in a folder of the server's own: the kept ones may lie in a home that its user cannot read.
kafka_jars() {
  local version kept
  version=$(sed -n '/kafka_2.13/,/version/s:.*<version>\(.*\)</version>.*:\1:p' "$(kafka_pom)")
  kept=${ZEGEL_KAFKA_JARS:-${XDG_CACHE_HOME:-$HOME/.cache}/zegel/kafka-$version}
  if [ ! -e "$kept/complete" ]; then
    command -v mvn >/dev/null || install maven
    say "fetching Kafka $version from Maven Central"
    # -C: a jar whose checksum is not the repository's is refused.
    mvn -q -B -C -f "$(kafka_pom)" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$kept" >&2 ||
      fail "the jars cannot be fetched"
    touch "$kept/complete"
  fi
  mkdir -p "$dir/jars"
  cp "$kept"/*.jar "$dir/jars/"
}

kafka_format() {
  local port=${ZEGEL_KAFKA_PORT:-$(free_port)} controller
  controller=$(free_port)
  mkdir -p "$dir/data"
  cat >"$dir/server.properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
log.dirs=$dir/data
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=4
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.index.size.max.bytes=1048576
${ZEGEL_KAFKA_SETTINGS:+$(tr ';' '\n' <<<"$ZEGEL_KAFKA_SETTINGS")}
CONF
  [ "$(id -u)" != 0 ] || chown -R nobody "$dir"
  # Letters for + and /: an id that begins with - would be taken for an option, in one run of 64.
  as "$(kafka_user)" java -cp "$dir/jars/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn kafka.tools.StorageTool format \
    --cluster-id "$(head -c 16 /dev/urandom | base64 | tr '+/' 'pq' | tr -d '=')" --config "$dir/server.properties" \
    >"$dir/format.log" 2>&1 || fail "formatting failed: $(tail -n 3 "$dir/format.log")"
  echo "$port" >"$dir/port"
}

kafka_up() {
  local heap=${ZEGEL_KAFKA_HEAP:-512m}
  command -v java >/dev/null || install openjdk-17-jre-headless || install default-jre-headless
  [ -d "$dir/jars" ] || kafka_jars
  [ -f "$dir/port" ] || kafka_format
  # A session of its own, so that an interrupted command leaves the server to `down`.
  # shellcheck disable=SC2016 # $$ and $@ are the inner shell's: the process id is that of the server itself
  as "$(kafka_user)" setsid bash -c 'echo $$ >"$0/pid"; exec java "$@"' "$dir" -Xms"$heap" -Xmx"$heap" -XX:+UseSerialGC -cp "$dir/jars/*" \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true \
    kafka.Kafka "$dir/server.properties" >>"$dir/server.log" 2>&1 </dev/null &
  until_ready 180 kafka_ready || fail "the server does not answer: $(tail -n 3 "$dir/server.log")"
}

kafka_down() { end "$dir/pid"; }

# The listener opens when the broker has caught up with its controller.
kafka_ready() { [ -f "$dir/port" ] && (exec 3<>"/dev/tcp/127.0.0.1/$(cat "$dir/port")") 2>/dev/null; }

kafka_status() { echo "KAFKA_URL=kafka://127.0.0.1:$(cat "$dir/port")"; }
