#!/bin/sh
# Gives kibana_system, which Kibana logs in as, its password: Elasticsearch makes that user without one. May run again at any time.
#   ELASTICSEARCH_URL  http://elasticsearch:9200     ELASTIC_PASSWORD  of the user elastic     KIBANA_SYSTEM_PASSWORD  to be set
set -eu

quoted() { printf '%s' "$1" | sed 's/[\\"]/\\&/g'; }

login=$(mktemp)
body=$(mktemp)
trap 'rm -f "$login" "$body"' EXIT
# In files, since the arguments of a process can be read by everybody.
printf 'user = "elastic:%s"\n' "$(quoted "$ELASTIC_PASSWORD")" >"$login"
printf '{"password":"%s"}' "$(quoted "$KIBANA_SYSTEM_PASSWORD")" >"$body"
curl --silent --show-error --fail --max-time 60 --retry 5 --retry-connrefused --config "$login" --output /dev/null \
  --header 'Content-Type: application/json' --data-binary "@$body" \
  "$ELASTICSEARCH_URL/_security/user/kibana_system/_password" || {
  echo "setup: kibana_system was not given its password: is ELASTIC_PASSWORD the one that Elasticsearch was made with?" >&2
  exit 1
}
echo "setup: the password of kibana_system"
