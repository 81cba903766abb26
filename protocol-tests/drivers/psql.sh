#!/usr/bin/env bash
# psql: a transaction, a prepared statement, a COPY and an error.
set -euo pipefail
p() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$url" "$@"; }
url=$1
[ "$(p -c 'select name from who')" = acme ]
[ "$(p -c 'begin' -c "insert into who values ('x')" -c 'select count(*) from who' -c 'rollback')" = 2 ]
[ "$(p -c 'prepare s as select name from who' -c 'execute s')" = acme ]
[ "$(printf 'a\nb\n' | p -c 'begin' -c '\copy who from stdin' -c 'select count(*) from who' -c 'rollback')" = 3 ]
[ "$(p -c '\copy who to stdout')" = acme ]
! p -c 'select 1/0' 2>/dev/null
{ p -c 'select 1/0' 2>&1 || true; } | grep -q 'division by zero'
echo ok
