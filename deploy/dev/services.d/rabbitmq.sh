# shellcheck shell=bash
# RabbitMQ 3.10 or later: a node of its own, with Debian's binaries, no plug-in, everything on loopback.
# ZEGEL_AMQP_PORT is its port. For a cluster, its nodes share ZEGEL_AMQP_COOKIE (a text of letters) and ZEGEL_AMQP_EPMD (the
# port of Erlang's name server, which the first of them starts); ZEGEL_AMQP_PEER names a node to join.
# The file `ctl` in the node's folder is its rabbitmqctl, `node` holds its name, `pid` its process.

dir=${dir:?is set by services}

rabbitmq_bin=/usr/lib/rabbitmq/bin

# The server refuses nothing, but has no reason to be root.
rabbitmq_user() {
  if [ "$(id -u)" = 0 ]; then echo rabbitmq; else id -un; fi
}

# Everything that the scripts of the package would otherwise read from /etc and write to /var.
rabbitmq_environment() {
  local port=$1 epmd=$2 node=$3
  cat <<ENVIRONMENT
export HOME='$dir' LANG=C.UTF-8 ERL_EPMD_PORT=$epmd ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_NODENAME='$node' RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT=$port
export RABBITMQ_DIST_PORT=$(free_port) RABBITMQ_PID_FILE='$dir/pid' RABBITMQ_CONF_ENV_FILE=/dev/null
export RABBITMQ_MNESIA_BASE='$dir/data' RABBITMQ_LOG_BASE='$dir/log' RABBITMQ_CONFIG_FILE='$dir/rabbitmq'
export RABBITMQ_ENABLED_PLUGINS_FILE='$dir/plugins'
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
export RABBITMQ_CTL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
ENVIRONMENT
}

rabbitmq_prepare() {
  local port=${ZEGEL_AMQP_PORT:-$(free_port)}
  mkdir -p "$dir/data" "$dir/log"
  echo "[]." >"$dir/plugins"
  # A machine for tests has a small disk; the limit that stops publishing is its operator's business.
  printf 'disk_free_limit.absolute = 50MB\nlog.file.level = error\n' >"$dir/rabbitmq.conf"
  echo "${ZEGEL_AMQP_COOKIE:-$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')}" >"$dir/.erlang.cookie"
  chmod 600 "$dir/.erlang.cookie"
  echo "${ZEGEL_AMQP_EPMD:-$(free_port)}" >"$dir/epmd"
  echo "zegel$port@localhost" >"$dir/node"
  rabbitmq_environment "$port" "$(cat "$dir/epmd")" "$(cat "$dir/node")" >"$dir/environment"
  printf '#!/bin/sh\n. "%s/environment"\nexec %s/rabbitmqctl --quiet "$@"\n' "$dir" "$rabbitmq_bin" >"$dir/ctl"
  chmod 755 "$dir/ctl"
  [ "$(id -u)" != 0 ] || chown -R rabbitmq:rabbitmq "$dir"
  echo "$port" >"$dir/port"
}

rabbitmq_up() {
  [ -x $rabbitmq_bin/rabbitmq-server ] || install rabbitmq-server
  [ -x $rabbitmq_bin/rabbitmq-server ] || fail "the package has no server"
  [ -f "$dir/port" ] || rabbitmq_prepare
  rabbitmq_names
  rm -f "$dir/pid"
  # shellcheck disable=SC2016 # HOME is that of the user
  as "$(rabbitmq_user)" sh -c '. "$HOME/environment"; cd "$HOME" && exec setsid "$0" >log/start 2>&1 </dev/null' \
    $rabbitmq_bin/rabbitmq-server &
  until_ready 60 rabbitmq_ready || fail "the node does not answer: $(tail -n 3 "$dir/log/start")"
  if [ -n "${ZEGEL_AMQP_PEER:-}" ] && [ ! -e "$dir/joined" ]; then
    { rabbitmq_ctl stop_app && rabbitmq_ctl join_cluster "$ZEGEL_AMQP_PEER" && rabbitmq_ctl start_app; } ||
      fail "the node does not join"
    touch "$dir/joined"
  fi
}

rabbitmq_ctl() { as "$(rabbitmq_user)" "$dir/ctl" "$@"; }

# Erlang's name server would outlive a node that starts it, so it is started here, with a process id.
rabbitmq_names() {
  local port
  port=$(cat "$dir/epmd")
  ! rabbitmq_listens "$port" || return 0
  # shellcheck disable=SC2016 # HOME is that of the user, and $$ becomes the name server
  as "$(rabbitmq_user)" sh -c 'echo $$ >"$HOME/epmd.pid" && exec setsid epmd -port "$0" -address 127.0.0.1' \
    "$port" >/dev/null 2>&1 </dev/null &
  until_ready 10 rabbitmq_listens "$port" || fail "Erlang's name server does not start"
}

rabbitmq_listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

rabbitmq_down() {
  end "$dir/pid"
  end "$dir/epmd.pid"
}

rabbitmq_ready() { [ -f "$dir/port" ] && rabbitmq_listens "$(cat "$dir/port")"; }

rabbitmq_status() {
  echo "AMQP_URL=amqp://guest:guest@127.0.0.1:$(cat "$dir/port")/%2f"
}
