# shellcheck shell=bash
# PostgreSQL 15 or later: a cluster of its own, with Debian's binaries. Durable settings, as Zegel asks for them.
# ZEGEL_PG_PORT is its port, ZEGEL_PG_SETTINGS further lines for postgresql.conf, separated by semicolons.

dir=${dir:?is set by services}

postgres_bin() {
  local found
  found=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
  [ -x "$found/postgres" ] || return 1
  echo "$found"
}

# initdb and the server refuse root.
postgres_user() {
  if [ "$(id -u)" = 0 ]; then echo postgres; else id -un; fi
}

postgres_up() {
  local bin port
  # The package of the server alone, without one that would make and start a cluster of its own.
  postgres_bin >/dev/null || install postgresql-15 || install postgresql
  bin=$(postgres_bin) || fail "the package has no server"
  if [ ! -f "$dir/port" ]; then
    port=${ZEGEL_PG_PORT:-$(free_port)}
    [ "$(id -u)" != 0 ] || chown postgres "$dir"
    as "$(postgres_user)" "$bin/initdb" --pgdata "$dir/data" --username zegel --auth trust --encoding UTF8 \
      --locale C.UTF-8 >"$dir/initdb.log" 2>&1 || fail "initdb failed: $(tail -n 3 "$dir/initdb.log")"
    as "$(postgres_user)" tee -a "$dir/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_connections = 200
shared_buffers = 128MB
max_wal_size = 1GB
fsync = on
full_page_writes = on
synchronous_commit = on
${ZEGEL_PG_SETTINGS:+$(tr ';' '\n' <<<"$ZEGEL_PG_SETTINGS")}
CONF
    echo "$port" >"$dir/port"
  fi
  as "$(postgres_user)" "$bin/pg_ctl" --pgdata "$dir/data" --log "$dir/server.log" --silent --timeout 60 start ||
    fail "the server does not start: $(tail -n 3 "$dir/server.log")"
  until_ready 30 postgres_ready || fail "the server does not answer"
}

postgres_down() {
  local bin
  bin=$(postgres_bin) || return 0
  [ ! -f "$dir/data/postmaster.pid" ] ||
    as "$(postgres_user)" "$bin/pg_ctl" --pgdata "$dir/data" --silent --mode immediate --timeout 30 stop || true
}

postgres_ready() {
  local bin
  bin=$(postgres_bin) && [ -f "$dir/port" ] &&
    "$bin/pg_isready" --quiet --host 127.0.0.1 --port "$(cat "$dir/port")"
}

postgres_status() {
  echo "POSTGRES_URL=postgres://zegel@127.0.0.1:$(cat "$dir/port")/postgres"
}
