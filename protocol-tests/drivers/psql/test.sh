#!/usr/bin/env bash
# psql. Before version 16 it has no parameters: what is prepared is prepared in SQL.
set -uo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

host=$TENANTRY_HOST port=$TENANTRY_PORT user=$TENANTRY_USER database=$TENANTRY_DATABASE
export PGPASSWORD=$TENANTRY_PASSWORD PGCONNECT_TIMEOUT=10
verified="hostaddr=$host sslmode=verify-full sslrootcert=$TENANTRY_CA"

# psql at a URL or conninfo: errors are SQLSTATEs, in the output; the first one ends it.
at() { psql -X -q -A -t -F ' ' -v ON_ERROR_STOP=1 -v VERBOSITY=sqlstate "$@" 2>&1; }
url() { printf 'postgres://%s:%s@%s:%s/%s' "$1" "$PGPASSWORD" "$host" "$port" "${2:-$database}"; }
acme=$(url "$user.acme")
acme() { at "$acme" "$@"; }

# psql with one command, interrupted once the server is at it.
interrupted() {
  psql -X -q -A -t -v VERBOSITY=sqlstate "$acme" -c "$1" <&0 2>&1 &
  until [ "$(acme -c "select count(*) from pg_stat_activity where state = 'active' and query ~* '^(copy +item|select pg_sleep)'")" = 1 ]; do sleep 0.02; done
  kill -INT $!
  wait $!
}

# is WANT GOT
is() {
  [ "$1" = "$2" ] && return
  printf '"%.200s" instead of "%.200s" (line %s)' "$2" "$1" "${BASH_LINENO[0]}" > "$directory/problem"
  exit 1 # of the check, which is a subshell
}

# A session that stays: open NAME TENANT; tell NAME SQL gives the answer.
open() {
  mkfifo "$directory/$1.in" "$directory/$1.out"
  at "$(url "$user.$2")" -v ON_ERROR_STOP=0 < "$directory/$1.in" > "$directory/$1.out" &
  local in out
  exec {in}> "$directory/$1.in" {out}< "$directory/$1.out"
  eval "$1_in=$in $1_out=$out"
}
tell() {
  local in=$1_in out=$1_out line answer=
  printf '%s;\n\\echo end of answer\n' "$2" >&"${!in}"
  while IFS= read -r -t 15 -u "${!out}" line && [ "$line" != "end of answer" ]; do answer+=${answer:+$'\n'}$line; done
  printf '%s' "$answer"
}

# Two sessions in every order of transactions: servers change hands. interleave ROUNDS NAME NAME FUNCTION
interleave() {
  local i x y
  for ((i = 0; i < $1; i++)); do
    if ((i % 2)); then x=$3 y=$2; else x=$2 y=$3; fi
    is "" "$(tell "$x" begin)"
    "$4" "$x" "$i"
    "$4" "$y" "$i"
    is "" "$(tell "$x" commit)"
    if ((i % 3 == 0)); then "$4" "$x" "$i"; fi
  done
}

usable='select name from who'
# A notice would be a line of the answer.
item='set client_min_messages = warning; drop table if exists item; create table item (id int primary key)'

connect_options() { is acme "$(at "$(url "$user")?options=-c%20app.tenant%3Dacme" -c "$usable")"; }
connect_user() {
  is acme "$(at "$(url "$user.acme")" -c "$usable")"
  is umbra "$(at "$(url "$user.umbra")" -c "$usable")"
}
connect_database() { is acme "$(at "$(url "$user" acme)" -c "$usable")"; }
connect_database_at() { is acme "$(at "$(url "$user" "$database%40acme")" -c "$usable")"; }
connect_sni() { is acme "$(at "host=acme.db.localhost port=$port user=$user dbname=$database $verified" -c "$usable")"; }

tls() {
  local conninfo="port=$port user=$user.acme dbname=$database $verified"
  is acme "$(at "host=localhost $conninfo" -c "$usable")"
  is "does not match host name" "$(at "host=other.example $conninfo" -c "$usable" | grep -o 'does not match host name')"
}

autocommit() {
  is 1 "$(acme -c "$item" -c 'insert into item values (1)' -c "\\! psql -X -A -t '$acme' -c 'select count(*) from item'" -c 'drop table item')"
}

transaction() {
  open a acme
  open b acme
  tell a "$item"
  tell a 'begin; insert into item values (1)'
  is 0 "$(tell b 'select count(*) from item')"
  tell a commit
  is 1 "$(tell b 'select count(*) from item')"
  tell a 'begin; insert into item values (2); rollback'
  is 1 "$(tell b 'select id from item')"
  tell a 'drop table item'
}

transaction_error() {
  open a acme
  tell a "$item; begin; insert into item values (1)"
  is 'ERROR:  22012' "$(tell a 'select 1/0')"
  is 'ERROR:  25P02' "$(tell a 'select 1')"
  tell a rollback
  is acme "$(tell a "$usable")"
  is 0 "$(tell a 'select count(*) from item')"
  tell a 'drop table item'
}

savepoint() {
  open a acme
  tell a "$item; begin; insert into item values (1); savepoint here; insert into item values (2)"
  is 'ERROR:  23505' "$(tell a 'insert into item values (1)')"
  tell a 'rollback to here; insert into item values (3); commit'
  is $'1\n3' "$(tell a 'select id from item order by id')"
  tell a 'drop table item'
  # psql's own savepoint around each statement of a transaction
  is $'ERROR:  22012\n2' "$(acme -v ON_ERROR_STOP=0 -v ON_ERROR_ROLLBACK=on -c begin -c 'select 1/0' -c 'select 2' -c commit)"
}

ask_prepared() {
  local i=$2 answer
  answer=$(tell "$1" "execute kind_$((i % 5)) ($i, 'acme')")
  is "acme $((i + i % 5))" "${answer% *}"
  echo "${answer##* }" >> "$directory/pids"
}
prepared() {
  local name kind
  open a acme
  open b acme
  for name in a b; do
    for kind in 0 1 2 3 4; do
      tell $name "prepare kind_$kind as select name, \$1::int + $kind, pg_backend_pid() from who where name = \$2"
    done
  done
  interleave 60 a b ask_prepared
  is yes "$([ "$(sort -u "$directory/pids" | wc -l)" -ge 2 ] && echo yes)"
}

# Many statements in one message, by \;
batch() {
  local numbers=({0..99}) text
  printf -v text 'select %s \\; ' "${numbers[@]}"
  is "$(printf '%s\n' "${numbers[@]}")" "$(acme <<< "${text% \\; };")"
  is $'1\nERROR:  22012\nacme' "$(acme -v ON_ERROR_STOP=0 <<< "select 1 \\; select 1/0 \\; select 2; $usable;")"
}

copy_in() {
  acme -c "$item"
  seq 0 9999 | acme -c '\copy item from stdin'
  is '10000 49995000' "$(acme -c 'select count(*), sum(id) from item' -c 'drop table item')"
}

copy_out() {
  is "$(seq 1 10000 | sed 's/$/\tacme/')" "$(acme -c '\copy (select n, name from who, generate_series(1, 10000) n) to stdout')"
}

# An interrupt gives a COPY up; psql ends then.
copy_in_aborted() {
  acme -c "$item"
  is 'ERROR:  57014' "$(interrupted '\copy item from stdin' < <(echo 1; sleep 5))"
  is 0 "$(acme -c 'select count(*) from item')"
  is $'ERROR:  22P02\nacme\n0' "$(printf '1\nx\n' | acme -v ON_ERROR_STOP=0 -c '\copy item from stdin' -c "$usable" -c 'select count(*) from item' -c 'drop table item')"
}

# FETCH_COUNT is a cursor in a transaction.
cursor() {
  is "$(seq 1 1000)" "$(acme -v FETCH_COUNT=100 <<< 'select n from generate_series(1, 1000) n;')"
  open a acme
  tell a 'begin; declare numbers cursor for select n from generate_series(1, 1000) n'
  local from
  for from in {1..1000..100}; do
    is "$(seq "$from" $((from + 99)))" "$(tell a 'fetch 100 from numbers')"
    is acme "$(acme -c "$usable")"
  done
  is "" "$(tell a 'fetch 100 from numbers; commit')"
}

# An interrupt is how psql is told to cancel; it ends then, so what is usable is the next session.
cancel() {
  local begun=$SECONDS
  is $'Cancel request sent\nERROR:  57014' "$(interrupted 'select pg_sleep(10)')"
  is yes "$( ((SECONDS - begun < 5)) && echo yes)"
  is acme "$(acme -c "$usable")"
}

notify() {
  open a acme
  open b acme
  tell a 'listen news'
  tell b "begin; select 'quiet' from pg_notify('news', 'hello')" > "$directory/quiet"
  is "" "$(tell a 'select from pg_sleep(0.2)')"
  tell b commit
  is yes "$(tell a 'select from pg_sleep(0.2)' | grep -q 'notification "news" with payload "hello"' && echo yes)"
}

large() {
  local text
  text=$(head -c $((20 << 20)) /dev/zero | tr '\0' x)
  is "$(md5sum <<< "$text")" "$(acme <<< "select '$text';" | md5sum)"
  is acme "$(acme -c "$usable")"
}

types() {
  local want=(-4611686018427387904 12345678901234567890.000123 "žluťoučký 🐘 'quoted' \\" '\x00ff10' '2026-01-02 03:04:05.678901+00'
    '{"a": [1, null, "ß"]}' '{1,NULL,3}' t 6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f) values
  printf -v values "'%s', " "${want[@]//\'/\'\'}"
  is "$(printf '%s|' "${want[@]}")null" "$(PGTZ=UTC acme -F '|' -P null=null <<< "
    prepare types (int8, numeric, text, bytea, timestamptz, jsonb, int[], bool, uuid, date) as select \$1, \$2, \$3, \$4, \$5, \$6, \$7, \$8, \$9, \$10;
    execute types ($values null);")"
}

# No pool: one connection, handed on.
pool_reset() {
  local before
  open a acme
  before=$(tell a 'show statement_timeout')
  tell a "set statement_timeout = '12345ms'"
  is 12345ms "$(tell a 'show statement_timeout')"
  tell a 'discard all'
  is "$before" "$(tell a 'show statement_timeout')"
  is acme "$(tell a "$usable")"
}

session_state() {
  local path i
  open a acme
  open b acme
  path=$(tell b 'show search_path')
  tell a "set statement_timeout = '12345ms'; set search_path = pg_catalog, pg_temp"
  tell b "set statement_timeout = '23456ms'"
  for i in {1..10}; do
    is $'12345ms\npg_catalog, pg_temp' "$(tell a 'begin; show statement_timeout; commit; show search_path')"
    is $'23456ms\n'"$path" "$(tell b 'begin; show statement_timeout; commit; show search_path')"
  done
  is acme "$(tell b "$usable")"
}

ask_tenant() {
  local i=$2 row
  row="$1 $((i + i % 3))"
  is "$row"$'\n'"$row" "$(tell "$1" "execute kind_$((i % 3)) ($i)")"
  is "$1" "$(tell "$1" "$usable")"
}
two_tenants() {
  local tenant kind
  for tenant in acme umbra; do
    open $tenant $tenant
    for kind in 0 1 2; do
      tell $tenant "prepare kind_$kind as select name, \$1::int + $kind from who, generate_series(1, 2)"
    done
  done
  interleave 100 acme umbra ask_tenant
}

# What one of sixteen runs, as a script: ID TENANT
crowd_script() {
  local kind i n
  for kind in 0 1 2; do echo "prepare kind_$kind as select tenant, \$1::int + $kind, pg_backend_pid() from crowd;"; done
  echo 'prepare up as update crowd set n = n + 1 where id = $1 returning tenant, n;'
  for i in {0..19}; do
    echo "execute kind_$((i % 3)) ($i);"
    echo "begin; execute kind_$((i % 3)) ($i); execute kind_$(((i + 1) % 3)) ($((i + 1))); commit;"
    echo "begin; execute up ($1); execute up ($1); commit;"
  done
}
crowd_answer() {
  local i n
  for i in {0..19}; do
    for n in $i $i $((i + 1)); do printf "$2 $((n + n % 3))\n%.0s" {0..15}; done
    printf '%s\n' "$2 $((2 * i + 1))" "$2 $((2 * i + 2))"
  done
}
sixteen_clients() {
  local tenants=(acme umbra) tenant id jobs=()
  for tenant in "${tenants[@]}"; do
    at "$(url "$user.$tenant")" <<< "set client_min_messages = warning; drop table if exists crowd; create table crowd (tenant text, id int, n int);
      insert into crowd select '$tenant', id, 0 from generate_series(0, 15) id;"
  done
  for tenant in "${tenants[@]}"; do
    yes $'alter table crowd add column extra int;\nalter table crowd drop column extra;' | head -40 | at "$(url "$user.$tenant")" > "$directory/alters.$tenant" &
    jobs+=($!)
  done
  for id in {0..15}; do
    crowd_script "$id" | at "$(url "$user.${tenants[id % 2]}")" > "$directory/crowd.$id" &
    jobs+=($!)
  done
  wait "${jobs[@]}"
  is "" "$(cat "$directory"/alters.*)"
  for id in {0..15}; do
    is "$(crowd_answer "$id" "${tenants[id % 2]}" | md5sum)" "$(cut -d ' ' -f 1,2 "$directory/crowd.$id" | md5sum)"
  done
  is yes "$([ "$(cut -s -d ' ' -f 3 "$directory"/crowd.* | sort -u | wc -l)" -ge 2 ] && echo yes)"
  for tenant in "${tenants[@]}"; do at "$(url "$user.$tenant")" -c 'drop table crowd'; done
}

checks=(connect-options connect-user connect-database connect-database-at connect-sni tls autocommit transaction transaction-error
  savepoint prepared batch copy-in copy-out copy-in-aborted cursor cancel notify large types pool-reset session-state two-tenants
  sixteen-clients)
failed=0
printf 'TAP version 13\n1..%s\n' ${#checks[@]}
for number in "${!checks[@]}"; do
  name=${checks[$number]}
  if [ "${TENANTRY_DIRECT:-}" = 1 ] && [[ $name = connect-* ]]; then
    echo "ok $((number + 1)) - $name # SKIP bare PostgreSQL knows no tenants"
    continue
  fi
  # A subshell: its sessions end with it.
  if ("${name//-/_}") > "$directory/noise"; then
    echo "ok $((number + 1)) - $name"
  else
    failed=1
    echo "not ok $((number + 1)) - $name: $(tr '\n' ' ' < "$directory/problem")"
  fi
  rm -f "$directory"/*
done
exit $failed
