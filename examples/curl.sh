#!/bin/sh
# No SDK at all: sh examples/curl.sh FILE [SERVER]
set -eu
recording=$1 server=${2:-http://127.0.0.1:8000}

curl -sS "$server/v1/audio/transcriptions" -H "Authorization: Bearer any" \
    -F model=whisper-1 -F response_format=text -F "file=@$recording"
