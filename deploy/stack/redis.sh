#!/bin/sh
# Start a Redis server: redis.sh FOLDER HOST PORT SENTINEL_HOST:PORT...
# A server that comes back after a failover follows the new primary at once. Otherwise the Sentinels would take ten seconds more to
# make it follow, and the gates refuse calls until it does. If no Sentinel answers, its own file says what it was.
set -eu
folder=$1 host=$2 port=$3
shift 3
for sentinel in "$@"; do
    primary=$(timeout 2 redis-cli -h "${sentinel%:*}" -p "${sentinel#*:}" SENTINEL GET-MASTER-ADDR-BY-NAME gates 2>/dev/null | tr '\n' ' ') || continue
    case $primary in
    "$host $port ") break ;;
    *.*.*.*" "*) set -- --replicaof ${primary} && exec redis-server "$folder/redis.conf" "$@" ;;
    esac
done
exec redis-server "$folder/redis.conf"
