#!/bin/sh
# A network camera, day and night: events as JSON Lines, and to a webhook where one is named.
#   sh examples/rtsp_camera.sh BANK rtsp://camera/1 events.jsonl [http://server/hook]
set -eu
if [ $# -gt 3 ]; then hook="--webhook $4"; else hook=""; fi
# shellcheck disable=SC2086 - no word where there is no webhook
exec "${MAFSAR:-mafsar}" watch "$1" "camera=$2" --jsonl "$3" --heartbeat 30 $hook
