#!/bin/sh
# Puts lifecycle, index templates, data views and saved searches in place. May run again at any time: it only ever replaces its own.
#   ELASTICSEARCH_URL  http://elasticsearch:9200     KIBANA_URL       http://kibana:5601
#   ELASTIC_PASSWORD   of the user elastic; empty: security is off    SETUP_SECONDS  how long it waits for both (300)
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
saved_objects=${SAVED_OBJECTS:-$here/../kibana/saved-objects.ndjson}
elasticsearch=${ELASTICSEARCH_URL:-http://elasticsearch:9200}
kibana=${KIBANA_URL:-http://kibana:5601}
deadline=$(($(date +%s) + ${SETUP_SECONDS:-300}))
answer=$(mktemp)
login=$(mktemp)
trap 'rm -f "$answer" "$login"' EXIT

# In a file, since the arguments of a process can be read by everybody.
if [ -n "${ELASTIC_PASSWORD:-}" ]; then
  printf 'user = "elastic:%s"\n' "$(printf '%s' "$ELASTIC_PASSWORD" | sed 's/[\\"]/\\&/g')" >"$login"
fi

fail() {
  echo "setup: $1" >&2
  [ ! -s "$answer" ] || { head -c 2000 "$answer" >&2; echo >&2; }
  exit 1
}

ask() {
  : >"$answer"
  curl --silent --show-error --max-time 60 --config "$login" --output "$answer" --write-out '%{http_code}' "$@"
}

# wait_for NAME URL
wait_for() {
  until status=$(ask "$2" 2>/dev/null) && [ "$status" = 200 ]; do
    case $status in
      401 | 403) fail "$1 at $2 refuses the password (HTTP $status): is ELASTIC_PASSWORD the one it was made with?" ;;
    esac
    [ "$(date +%s)" -lt "$deadline" ] || fail "$1 did not become ready at $2 (last answer: HTTP ${status:-none})"
    sleep 2
  done
}

# put PATH FILE
put() {
  status=$(ask --request PUT --header 'Content-Type: application/json' --data-binary "@$2" "$elasticsearch/$1") ||
    fail "no answer to PUT $1"
  [ "$status" = 200 ] || fail "Elasticsearch refused $1 (HTTP $status):"
  echo "setup: $1"
}

for file in "$here/lifecycle.json" "$here/logs-template.json" "$here/decisions-template.json" "$saved_objects"; do
  [ -r "$file" ] || fail "$file is missing"
done

wait_for Elasticsearch "$elasticsearch/_cluster/health?wait_for_status=yellow&timeout=30s"
put _ilm/policy/taskpilot "$here/lifecycle.json"
put _index_template/taskpilot-logs "$here/logs-template.json"
put _index_template/taskpilot-decisions "$here/decisions-template.json"

wait_for Kibana "$kibana/api/status"
status=$(ask --request POST --header 'kbn-xsrf: taskpilot' --form "file=@$saved_objects;type=application/ndjson" \
  "$kibana/api/saved_objects/_import?overwrite=true") || fail "no answer to the import of saved objects"
# Kibana answers 200 to an import of which a part failed.
[ "$status" = 200 ] && grep -q '"success":true' "$answer" || fail "Kibana did not take the saved objects (HTTP $status):"
echo "setup: data views and saved searches"
