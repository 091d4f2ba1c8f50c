#!/bin/sh
# Installs the peers of the interop tests: Python's gRPC in a virtual environment, and stubs of our proto for it.
# Does nothing if all is already there. Where it goes: MAINSTAY_INTEROP_DIR, or target/interop.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=${MAINSTAY_INTEROP_DIR:-$root/target/interop}
pins="grpcio==1.85.1 grpcio-tools==1.85.1 grpcio-status==1.85.1"
proto=mainstay/demo/v1/greeter.proto

stamp="$pins $(cksum <"$root/proto/$proto")"
if [ -f "$dir/stamp" ] && [ "$(cat "$dir/stamp")" = "$stamp" ]; then
    exit 0
fi

mkdir -p "$dir/stubs"
rm -f "$dir/stamp"
[ -x "$dir/venv/bin/python" ] || python3 -m venv "$dir/venv"
# shellcheck disable=SC2086 # one argument for each pin
"$dir/venv/bin/python" -m pip install --quiet --disable-pip-version-check $pins
"$dir/venv/bin/python" -m grpc_tools.protoc -I "$root/proto" \
    --python_out="$dir/stubs" --grpc_python_out="$dir/stubs" "$root/proto/$proto"
printf '%s\n' "$stamp" >"$dir/stamp"
echo "interop peers are in $dir"
