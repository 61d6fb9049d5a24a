#!/bin/sh
# Runs dialgate or registry-sync as the gate's user, with the installed configuration. Written by `dialgate install`.
export DIALGATE_CONFIG="${DIALGATE_CONFIG:-/etc/dialgate/config/dialgate.yaml}"
export REGISTRY_SYNC_CONFIG="${REGISTRY_SYNC_CONFIG:-/etc/dialgate/config/registries.yaml}"
export DIALGATE_ACTOR="${DIALGATE_ACTOR:-${SUDO_USER:-$(id -un)}}" # whom records name
program="/opt/dialgate/bin/${0##*/}"
if [ "$(id -u)" != 0 ] && [ "$(id -un)" != dialgate ]; then
  exec sudo -- "$0" "$@"
elif [ "$(id -u)" != 0 ] || [ "${1:-}" = install ]; then
  exec "$program" "$@"
fi
exec runuser -u dialgate -- "$program" "$@"
