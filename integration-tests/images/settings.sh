# Read by the other scripts here: what the images are called, and where everything that is built or started is kept.
# shellcheck shell=bash disable=SC2034

kafka_version=4.3.1
elasticsearch_version=8.19.21
kafka_image="apache/kafka:$kafka_version"
elasticsearch_image="elasticsearch:$elasticsearch_version"
base_image=lockstep-base:1

cache="${LOCKSTEP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lockstep}"
engine_dir="$cache/engine" # short on purpose: the path of a unix socket ends at 107 bytes
engine_socket="$engine_dir/docker.sock"
build_dir="$cache/images"
log_dir="$cache/logs"
mkdir -p "$log_dir"

# One sentence to stderr, and the end.
fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Runs a command with its output in a log of its own, and shows the end of the log only when the command fails.
quietly() {
  local log="$log_dir/$1.log"
  shift
  "$@" >"$log" 2>&1 || {
    tail -n 30 "$log" >&2
    fail "'$*' failed, its whole output is in $log"
  }
}

# Installs Debian packages if that is possible here; says what is needed where it is not.
install_packages() {
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    fail "please install: $* (they are installed by themselves only as root on a system with apt)"
  fi
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-update apt-get update
  quietly "apt-install-$1" apt-get install -y --no-install-recommends "$@"
}
