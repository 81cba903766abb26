<?php
// PHP's pgsql functions (libpq) and PDO, which prepares by name and deallocates what it drops.

$checks = $open = [];
[$host, $port, $user, $password, $database, $ca] = array_map(
    fn($name) => getenv("TENANTRY_$name"),
    ["HOST", "PORT", "USER", "PASSWORD", "DATABASE", "CA"]
);

set_error_handler(function ($level, $message) {
    throw new ErrorException($message); // a warning is how these functions fail
});

function url(string $way = "user", string $tenant = "acme"): string
{
    global $host, $port, $user, $password, $database;
    $login = $way === "user" ? "$user.$tenant" : $user;
    $name = ["database" => $tenant, "database-at" => "$database%40$tenant"][$way] ?? $database;
    $query = $way === "options" ? "&options=-c%20app.tenant%3D$tenant" : "";
    return "postgres://$login:$password@$host:$port/$name?connect_timeout=10$query";
}

function connect(string $tenant = "acme", string $way = "user"): PgSql\Connection
{
    // Without FORCE_NEW the same URL is the same connection.
    $c = pg_connect(url($way, $tenant), PGSQL_CONNECT_FORCE_NEW);
    pg_set_error_verbosity($c, PGSQL_ERRORS_VERBOSE);
    return $GLOBALS["open"][] = $c;
}

// PHP itself holds on to the connection that was opened last, so none ends by itself.
function close_all(): void
{
    array_map("pg_close", $GLOBALS["open"]);
    $GLOBALS["open"] = [];
}

function pdo(string $tenant = "acme"): PDO
{
    global $host, $port, $user, $password, $database;
    return new PDO("pgsql:host=$host;port=$port;dbname=$database", "$user.$tenant", $password);
}

function equal($want, $got): void
{
    if ($want !== $got) {
        throw new Exception(substr(json_encode($got), 0, 300) . " instead of " . substr(json_encode($want), 0, 300));
    }
}

function rows(PgSql\Connection $c, string $sql, ...$parameters): array
{
    return pg_fetch_all(pg_query_params($c, $sql, $parameters), PGSQL_NUM);
}

function value(PgSql\Connection $c, string $sql, ...$parameters)
{
    return rows($c, $sql, ...$parameters)[0][0];
}

function usable(PgSql\Connection $c, string $tenant = "acme"): void
{
    equal([["name" => $tenant]], pg_fetch_all(pg_query($c, "select name from who")));
}

function fails(string $sqlstate, callable $act): void
{
    try {
        $act();
    } catch (PDOException $e) {
        equal($sqlstate, $e->getCode());
        return;
    } catch (ErrorException $e) {
        preg_match('/ERROR:\s+(\w{5}):/', $e->getMessage(), $found) || throw $e;
        equal($sqlstate, $found[1]);
        return;
    }
    throw new Exception("no error instead of $sqlstate");
}

function item(PgSql\Connection $c): void
{
    pg_query($c, "drop table if exists item");
    pg_query($c, "create table item (id int primary key)");
}

function connects(string $way, string $tenant = "acme"): void
{
    $c = connect($tenant, $way);
    usable($c, $tenant);
    close_all();
}

function verified(string $name, string $login): void
{
    global $host, $port, $password, $database, $ca;
    $more = "sslmode=verify-full hostaddr=$host sslrootcert=$ca";
    $c = pg_connect("host=$name port=$port user=$login password=$password dbname=$database $more", PGSQL_CONNECT_FORCE_NEW);
    usable($c);
    pg_close($c);
    // PDO hands on what it does not know.
    $pdo = new PDO("pgsql:host=$name;port=$port;dbname=$database;" . strtr($more, " ", ";"), $login, $password);
    equal("acme", $pdo->query("select name from who")->fetchColumn());
}

// Two clients in every order of transactions: servers change hands.
function interleave(int $rounds, array $both, callable $begin, callable $commit, callable $ask): void
{
    for ($i = 0; $i < $rounds; $i++) {
        [$x, $y] = $i % 2 ? array_reverse($both) : $both;
        $begin($x);
        $ask($x, $i);
        $ask($y, $i);
        $commit($x);
        if ($i % 3 === 0) {
            $ask($x, $i);
        }
    }
}

$checks["connect-options"] = fn() => connects("options");
$checks["connect-user"] = function () {
    foreach (["acme", "umbra"] as $tenant) {
        connects("user", $tenant);
        equal($tenant, pdo($tenant)->query("select name from who")->fetchColumn());
    }
};
$checks["connect-database"] = fn() => connects("database");
$checks["connect-database-at"] = fn() => connects("database-at");
$checks["connect-sni"] = fn() => verified("acme.db.localhost", $user);

$checks["tls"] = function () use ($user) {
    verified("localhost", "$user.acme");
    try {
        verified("other.example", "$user.acme");
    } catch (ErrorException $e) {
        str_contains($e->getMessage(), "does not match host name") || throw $e;
        return;
    }
    throw new Exception("the name in the certificate was not checked");
};

$checks["autocommit"] = function () {
    [$a, $b] = [connect(), connect()];
    item($a);
    pg_query_params($a, 'insert into item values ($1)', [1]);
    equal("1", value($b, "select count(*) from item"));
    pg_query($a, "drop table item");
};

$checks["transaction"] = function () {
    [$a, $b] = [pdo(), connect()];
    $a->exec("drop table if exists item; create table item (id int primary key)");
    $insert = $a->prepare("insert into item values (?)");
    $a->beginTransaction();
    $insert->execute([1]);
    equal("0", value($b, "select count(*) from item"));
    $a->commit();
    equal("1", value($b, "select count(*) from item"));
    $a->beginTransaction();
    $insert->execute([2]);
    $a->rollBack();
    equal([["1"]], rows($b, "select id from item"));
    $a->exec("drop table item");
};

$checks["transaction-error"] = function () {
    $c = connect();
    item($c);
    pg_query($c, "begin; insert into item values (1)");
    fails("22012", fn() => value($c, 'select 1 / $1::int', 0));
    fails("25P02", fn() => pg_query($c, "select 1"));
    equal(PGSQL_TRANSACTION_INERROR, pg_transaction_status($c));
    pg_query($c, "rollback");
    usable($c);
    equal("0", value($c, "select count(*) from item"));
    pg_query($c, "drop table item");
};

$checks["savepoint"] = function () {
    $c = connect();
    item($c);
    pg_query($c, "begin; insert into item values (1); savepoint here; insert into item values (2)");
    fails("23505", fn() => pg_query_params($c, 'insert into item values ($1)', [1]));
    pg_query($c, "rollback to here");
    pg_query($c, "insert into item values (3)");
    pg_query($c, "commit");
    equal([["1"], ["3"]], rows($c, "select id from item order by id"));
    pg_query($c, "drop table item");
};

// pg_prepare keeps its names; PDO names a statement, runs it twice and deallocates it, each round.
$checks["prepared"] = function () {
    $pids = [];
    $sql = fn($kind, $number, $name) => "select name, $number::int + $kind, pg_backend_pid() from who where name = $name";
    $check = function ($row, $i) use (&$pids) {
        equal(["acme", $i + $i % 5], [$row[0], (int) $row[1]]);
        $pids[$row[2]] = true;
    };
    $clients = [connect(), connect()];
    foreach ($clients as $c) {
        for ($kind = 0; $kind < 5; $kind++) {
            pg_prepare($c, "kind $kind", $sql($kind, '$1', '$2'));
        }
    }
    interleave(60, $clients, fn($c) => pg_query($c, "begin"), fn($c) => pg_query($c, "commit"), function ($c, $i) use ($check) {
        $check(pg_fetch_row(pg_execute($c, "kind " . $i % 5, [$i, "acme"])), $i);
    });
    close_all(); // each of them may have a server to itself
    interleave(60, [pdo(), pdo()], fn($c) => $c->beginTransaction(), fn($c) => $c->commit(), function ($c, $i) use ($check, $sql) {
        $statement = $c->prepare($sql($i % 5, "?", "?"));
        foreach ([1, 2] as $_) {
            $statement->execute([$i, "acme"]);
            $check($statement->fetch(PDO::FETCH_NUM), $i);
        }
    });
    count($pids) >= 2 || throw new Exception("only one server connection was used");
};

// No pipeline before PHP 8.3: many statements in one simple query.
$checks["batch"] = function () {
    $c = connect();
    pg_send_query($c, implode(";", array_map(fn($n) => "select $n", range(0, 99))));
    $got = [];
    while ($result = pg_get_result($c)) {
        $got[] = (int) pg_fetch_result($result, 0, 0);
    }
    equal(range(0, 99), $got);
    fails("22012", fn() => pg_query($c, "select 1; select 1/0; select 2"));
    usable($c);
};

$checks["copy-in"] = function () {
    $c = connect();
    item($c);
    pg_copy_from($c, "item", array_map(fn($n) => "$n\n", range(0, 9999)));
    equal([["10000", "49995000"]], rows($c, "select count(*), sum(id) from item"));
    pg_query($c, "truncate item");
    pg_query($c, "copy item from stdin");
    foreach (range(0, 9999) as $n) {
        pg_put_line($c, "$n\n");
    }
    pg_put_line($c, "\\.\n");
    pg_end_copy($c);
    equal([["10000", "49995000"]], rows($c, "select count(*), sum(id) from item"));
    pg_query($c, "drop table item");
};

$checks["copy-out"] = function () {
    $c = connect();
    $want = array_map(fn($n) => "$n\tacme\n", range(1, 10000));
    equal($want, pg_copy_to($c, "(select n, name from who, generate_series(1, 10000) n)"));
};

// These functions cannot give a COPY up.
$checks["copy-in-aborted"] = function () {
    $c = connect();
    item($c);
    fails("22P02", fn() => pg_copy_from($c, "item", ["1\n", "x\n"]));
    usable($c);
    equal("0", value($c, "select count(*) from item"));
    pg_query($c, "drop table item");
};

// A PDO cursor is a DECLARE and a FETCH for every row.
$checks["cursor"] = function () {
    [$a, $b] = [pdo(), connect()];
    $a->beginTransaction();
    $rows = $a->prepare("select n from generate_series(1, 1000) n", [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
    $rows->execute();
    for ($n = 1; $n <= 1000; $n++) {
        equal($n, (int) $rows->fetchColumn());
        if ($n % 100 === 0) {
            usable($b);
        }
    }
    equal(false, $rows->fetch());
    $rows->closeCursor();
    $a->commit();
};

// The driver reads the 57014 away; that the sleep is short proves it.
$checks["cancel"] = function () {
    [$c, $watch] = [connect(), connect()];
    $begun = microtime(true);
    pg_send_query($c, "select pg_sleep(10)");
    while (!rows($watch, "select 1 from pg_stat_activity where state = 'active' and query = 'select pg_sleep(10)'")) {
        usleep(10_000); // between two looks
    }
    pg_cancel_query($c) || throw new Exception("the cancel was not sent");
    microtime(true) - $begun < 5 || throw new Exception("too late");
    usable($c);
};

$checks["notify"] = function () {
    [$a, $b] = [connect(), connect()];
    pg_query($a, "listen news");
    pg_query($b, "begin");
    pg_query($b, "select pg_notify('news', 'hello')");
    usleep(200_000);
    equal(false, pg_get_notify($a));
    pg_query($b, "commit");
    for ($until = microtime(true) + 5; !($got = pg_get_notify($a)) && microtime(true) < $until;) {
        usleep(10_000); // between two looks
    }
    equal(["news", "hello"], [$got["message"], $got["payload"]]);
};

$checks["large"] = function () {
    $text = str_repeat("0123456789abcdef", (20 << 20) / 16);
    $c = connect();
    value($c, 'select $1::text', $text) === $text || throw new Exception("it came back changed");
    usable($c);
    close_all();
    $statement = pdo()->prepare("select ?::text");
    $statement->execute([$text]);
    $statement->fetchColumn() === $text || throw new Exception("it came back changed to PDO");
};

$checks["types"] = function () {
    $bytes = implode("", array_map("chr", range(0, 255)));
    $values = [
        "int8" => -(2 ** 62), "numeric" => "12345678901234567890.000123", "text" => "žluťoučký 🐘 'quoted' \\",
        "bytea" => $bytes, "timestamptz" => "2026-01-02 03:04:05.678901+00", "jsonb" => '{"a": [1, null, "ß"]}',
        "int[]" => "{1,NULL,3}", "bool" => true, "uuid" => "6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f", "date" => null,
    ];
    $c = connect();
    pg_query($c, "set timezone = 'UTC'");
    $columns = implode(", ", array_map(fn($i, $type) => '$' . ($i + 1) . "::$type", array_keys(array_keys($values)), array_keys($values)));
    $texts = array_values(array_replace($values, ["int8" => (string) $values["int8"], "bool" => "t"]));
    $row = rows($c, "select $columns", ...array_replace($texts, [3 => pg_escape_bytea($c, $bytes)]))[0];
    $row[3] = pg_unescape_bytea($row[3]);
    equal(array_map("bin2hex", array_filter($texts)), array_map("bin2hex", array_filter($row)));
    equal(null, $row[9]);
    close_all();

    $pdo = pdo();
    $pdo->exec("set timezone = 'UTC'");
    $statement = $pdo->prepare("select " . implode(", ", array_map(fn($type) => "?::$type", array_keys($values))));
    $kinds = ["int8" => PDO::PARAM_INT, "bytea" => PDO::PARAM_LOB, "bool" => PDO::PARAM_BOOL];
    foreach (array_keys($values) as $i => $type) {
        $statement->bindValue($i + 1, $values[$type], $kinds[$type] ?? PDO::PARAM_STR);
    }
    $statement->execute();
    $row = $statement->fetch(PDO::FETCH_NUM);
    $row[3] = stream_get_contents($row[3]);
    equal(serialize(array_values($values)), serialize($row));
};

// Persistent connections are PHP's pool: it sends RESET ALL when it hands one out again.
function pool_reset(): void
{
    $before = value(pg_pconnect(url()), "show statement_timeout");
    for ($i = 0; $i < 3; $i++) {
        $c = pg_pconnect(url());
        pg_query($c, "set statement_timeout = '12345ms'");
        equal("12345ms", value($c, "show statement_timeout"));
        $c = pg_pconnect(url());
        equal($before, value($c, "show statement_timeout"));
        usable($c);
    }
}

$checks["pool-reset"] = function () {
    // Only the end of the process closes a persistent connection, and the checks that follow need its server.
    exec(escapeshellarg(PHP_BINARY) . " " . escapeshellarg(__FILE__) . " pool-reset", $said, $status);
    equal([[], 0], [$said, $status]);
};

$checks["session-state"] = function () {
    [$a, $b] = [connect(), connect()];
    $path = value($b, "show search_path");
    pg_query($a, "set statement_timeout = '12345ms'");
    pg_query($a, "set search_path = pg_catalog, pg_temp");
    pg_query($b, "set statement_timeout = '23456ms'");
    for ($i = 0; $i < 10; $i++) {
        foreach ([[$a, "12345ms", "pg_catalog, pg_temp"], [$b, "23456ms", $path]] as [$c, $timeout, $where]) {
            pg_query($c, "begin");
            equal($timeout, value($c, "show statement_timeout"));
            pg_query($c, "commit");
            equal($where, value($c, "show search_path"));
        }
    }
    usable($b);
};

$checks["two-tenants"] = function () {
    $both = [pdo("acme"), pdo("umbra")];
    interleave(100, $both, fn($c) => $c->beginTransaction(), fn($c) => $c->commit(), function ($c, $i) use ($both) {
        $statement = $c->prepare("select name, ?::int + " . $i % 3 . " from who, generate_series(1, 3)");
        $statement->execute([$i]);
        $row = [$c === $both[0] ? "acme" : "umbra", $i + $i % 3];
        equal([$row, $row, $row], $statement->fetchAll(PDO::FETCH_NUM));
    });
};

// One statement of one of many clients, while the others go on with theirs: the client yields until it is answered.
function answered(PgSql\Connection $c): Generator
{
    while (pg_connection_busy($c)) {
        yield;
    }
    $result = pg_get_result($c);
    $state = pg_result_error_field($result, PGSQL_DIAG_SQLSTATE);
    pg_get_result($c) && throw new Exception("two answers");
    $state && throw new Exception("$state " . pg_result_error($result));
    return pg_fetch_all($result, PGSQL_NUM);
}

function ask(PgSql\Connection $c, string $name, ...$parameters): Generator
{
    pg_send_execute($c, $name, $parameters);
    return yield from answered($c);
}

function tell(PgSql\Connection $c, string $sql): Generator
{
    pg_send_query($c, $sql);
    return yield from answered($c);
}

$checks["sixteen-clients"] = function () {
    $tenants = ["acme", "umbra"];
    $pids = [];
    $altering = 2;
    $read = function ($c, $tenant, $i) use (&$pids) {
        $rows = yield from ask($c, "kind " . $i % 3, $i);
        equal(array_fill(0, 16, [$tenant, (string)($i + $i % 3)]), array_map(fn($row) => array_slice($row, 0, 2), $rows));
        $pids[$rows[0][2]] = true;
    };
    $client = function ($c, $tenant, $id) use ($read, &$altering) {
        for ($i = 0; $i < 20 || $altering; $i++) {
            yield from $read($c, $tenant, $i);
            yield from tell($c, "begin");
            yield from $read($c, $tenant, $i);
            yield from $read($c, $tenant, $i + 1);
            yield from tell($c, "commit");
            yield from tell($c, "begin");
            foreach ([2 * $i + 1, 2 * $i + 2] as $n) {
                equal([[$tenant, (string)$n]], yield from ask($c, "update", $id));
            }
            yield from tell($c, "commit");
        }
    };
    $alterer = function ($c) use (&$altering) {
        for ($i = 0; $i < 20; $i++) {
            yield from tell($c, "alter table crowd add column extra int");
            yield from tell($c, "alter table crowd drop column extra");
        }
        $altering--;
    };
    $owners = $acts = [];
    foreach ($tenants as $tenant) {
        $c = $owners[] = connect($tenant);
        pg_query($c, "drop table if exists crowd");
        pg_query($c, "create table crowd (tenant text, id int, n int)");
        rows($c, 'insert into crowd select $1, id, 0 from generate_series(0, 15) id', $tenant);
        $acts[] = $alterer($c);
    }
    for ($id = 0; $id < 16; $id++) {
        $c = connect($tenants[$id % 2]);
        for ($kind = 0; $kind < 3; $kind++) {
            pg_prepare($c, "kind $kind", "select tenant, \$1::int + $kind, pg_backend_pid() from crowd");
        }
        pg_prepare($c, "update", 'update crowd set n = n + 1 where id = $1 returning tenant, n');
        $acts[] = $client($c, $tenants[$id % 2], $id);
    }
    while ($acts = array_filter($acts, fn($act) => $act->valid())) {
        array_walk($acts, fn($act) => $act->next());
        usleep(200); // between two looks
    }
    foreach ($owners as $c) {
        pg_query($c, "drop table crowd");
    }
    equal(true, count($pids) >= 2);
};

if (($argv[1] ?? "") === "pool-reset") {
    pool_reset();
    exit(0);
}
$failed = false;
$number = 0;
echo "TAP version 13\n1..", count($checks), "\n";
foreach ($checks as $name => $check) {
    $number++;
    if (getenv("TENANTRY_DIRECT") === "1" && str_starts_with($name, "connect-")) {
        echo "ok $number - $name # SKIP bare PostgreSQL knows no tenants\n";
        continue;
    }
    try {
        $check();
        echo "ok $number - $name\n";
    } catch (Throwable $e) {
        $failed = true;
        $lines = array_column(array_filter($e->getTrace(), fn($frame) => isset($frame["line"])), "line");
        $message = preg_replace('/\s+/', " ", $e->getMessage());
        echo "not ok $number - $name: $message (line {$e->getLine()} from " . implode(", ", $lines) . ")\n";
    }
    close_all();
}
exit($failed ? 1 : 0);
