#!/bin/sh
# The start and end of each action in a long video, as a table.
#   sh examples/long_video_to_csv.sh SUPPORT_OR_BANK VIDEO EVENTS.csv
set -eu
"${MAFSAR:-mafsar}" watch "$1" "$2" --csv "$3" -y
