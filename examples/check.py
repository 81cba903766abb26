#!/usr/bin/env python3
"""Drives the Django examples and checks every row of every answer: is it the tenant's that asked?

Starts a throw-away PostgreSQL and, per cell of a matrix, what stands between (nothing, PgBouncer or Tenantry)
and an example under gunicorn; 16 clients then send requests of 20 tenants, mixed at random.

    examples/check.py                                         bare PostgreSQL: the oracle
    examples/check.py --targets direct pgbouncer tenantry --tenantry target/release/tenantry
    examples/check.py --quick --tenantry target/release/tenantry

Fails when a cell of `direct` or `tenantry` has a wrong answer, a misplaced row or an error. `pgbouncer` never fails: it
shows what goes wrong without a tenant-aware pooler. Round trips are counted at PostgreSQL: its ReadyForQuery messages.

Needs (Debian): postgresql python3-venv, and pgbouncer for that target. Everything started is stopped again.
"""

import argparse
import asyncio
import collections
import contextlib
import fcntl
import glob
import http.client
import json
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
NOTES = 20  # notes a tenant is loaded with; each has a tag
CLIENTS = 16
REQUEST_TIMEOUT = 15
CELL_TIMEOUT = 60  # a cell that hangs must not hold up the others

# An answer's fewest rows: what was loaded, and nothing hides it. `read` has one row of schema public.
ROWS = {"read": 1 + 3 * NOTES, "write": 3, "fail": NOTES, "stream": 2 * NOTES}

CREATE, LOAD = ["create_tenants"], ["load_notes", f"--notes={NOTES}"]
SHARED = ["migrate_schemas", "--shared"]
EXAMPLES = {  # the commands that fill an empty database; the last migration is many at once, and has nothing to do
    "django-tenants": [SHARED, CREATE, ["migrate_schemas", "--executor=multiprocessing"], LOAD],
    "django-pgschemas": [["migrate", "--schema=public"], CREATE, ["migrate"], ["migrate", "--parallel"], LOAD],
    "django-tenant-schemas": [SHARED, CREATE, ["migrate_schemas", "--executor=parallel"], LOAD],
}
NATIVE_POOL = {"DATABASE_POOL": "4"}  # fewer connections than gunicorn has threads: they change hands
VARIANTS = {
    "default": {},
    "persistent": {"CONN_MAX_AGE": "None"},
    "psycopg pool": NATIVE_POOL,
    "limit": {"LIMIT_SET_CALLS": "1"},
    "limit, persistent": {"LIMIT_SET_CALLS": "1", "CONN_MAX_AGE": "None"},
    "limit, psycopg pool": {"LIMIT_SET_CALLS": "1", **NATIVE_POOL},
    "atomic": {"ATOMIC_REQUESTS": "1"},
    "atomic, persistent": {"ATOMIC_REQUESTS": "1", "CONN_MAX_AGE": "None"},
}
WITHOUT_NATIVE_POOL = {"django-tenant-schemas"}  # Django 4.2

Cell = collections.namedtuple("Cell", "example target pool variant")


def tenants(example):
    hyphen = "-" if example == "django-tenants" else ""  # the others refuse names that SQL must quote
    return ["acme", "umbra"] + [f"tenant{hyphen}{n:02}" for n in range(3, 21)]


# Processes

# A signal only asks to stop: an exception between a fork and what undoes it would leave the process behind.
STOP = threading.Event()


class Stopped(Exception):
    pass


def go_on():
    if STOP.is_set():
        raise Stopped


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(condition, process, log):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        go_on()
        if result := condition():
            return result
        if process.poll() is not None:
            raise RuntimeError(f"{log.stem} ended: {log.read_text().strip()[-300:]}")
        time.sleep(0.05)
    raise RuntimeError(f"{log.stem} did not start")


def accepts(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True


@contextlib.contextmanager
def running(command, log, stop=signal.SIGTERM, **options):
    """A process in a session of its own, so that Ctrl-C reaches only the harness, which stops it in order."""
    with open(log, "ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, **options
        )
    try:
        yield process
    finally:
        process.send_signal(stop)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it hangs, or a worker outlived it
        process.wait()


# PostgreSQL, and what counts its round trips


class Rig:
    """What all cells share: a directory, PostgreSQL, and the counting proxy before it."""

    def __init__(self, directory, bindir):
        self.dir, self.bindir = pathlib.Path(directory), bindir
        # Neither PostgreSQL nor PgBouncer runs as root.
        self.owner = "nobody" if os.getuid() == 0 else None
        os.chmod(directory, 0o755)

    @contextlib.contextmanager
    def postgres(self):
        data, self.port = self.dir / "data", free_port()
        data.mkdir(mode=0o700)
        if self.owner:
            owner = pwd.getpwnam(self.owner)
            os.chown(data, owner.pw_uid, owner.pw_gid)
        initdb = [self.bindir / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--no-sync"]
        initdb += ["--auth-local=trust", "--auth-host=scram-sha-256"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, user=self.owner, cwd="/")
        # Debian's time zone, not Django's "UTC": Django then sets its own on every new connection.
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": data}
        settings |= {"fsync": "off", "max_connections": 200, "timezone": "Etc/UTC"}
        command = [self.bindir / "postgres", "-D", data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        log = self.dir / "postgres.log"
        with running(command, log, signal.SIGINT, user=self.owner, cwd="/") as process:
            wait_for(self.is_ready, process, log)
            self.psql("postgres", "CREATE ROLE app LOGIN PASSWORD 'app'")
            yield

    def is_ready(self):
        command = [self.bindir / "pg_isready", "-q", "-h", self.dir / "data", "-p", str(self.port)]
        return subprocess.run(command).returncode == 0

    def psql(self, database, sql):
        command = [self.bindir / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.dir / "data"]
        command += ["-p", str(self.port), "-U", "postgres", "-d", database, "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr.strip()}")
        return [line.split("|") for line in done.stdout.splitlines()]

    def new_database(self, name):
        self.psql("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.psql("postgres", f"CREATE DATABASE {name} OWNER app")


class Messages:
    """What PostgreSQL sends on one connection, without TLS: how many messages of it are ReadyForQuery."""

    def __init__(self):
        self.rest = b""

    def ready(self, data):
        data, at, count = self.rest + data, 0, 0
        while len(data) - at >= 5:
            end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
            if end > len(data):
                break
            count += data[at] == ord("Z")
            at = end
        self.rest = data[at:]
        return count


class Proxy:
    """Passes connections on to PostgreSQL and counts its ReadyForQuery messages in `round_trips`."""

    def __init__(self, upstream):
        self.upstream, self.round_trips = upstream, 0

    async def pump(self, reader, writer, messages):
        try:
            while data := await reader.read(65536):
                if messages:
                    self.round_trips += messages.ready(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connection(self, client_reader, client_writer):
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        await asyncio.gather(
            self.pump(client_reader, server_writer, None), self.pump(server_reader, client_writer, Messages())
        )

    async def serve(self, started):
        server = await asyncio.start_server(self.connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        started.set()
        await self.stopped.wait()

    @contextlib.contextmanager
    def serving(self):
        started = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self.serve(started)), daemon=True)
        thread.start()
        started.wait()
        try:
            yield self
        finally:
            self.loop.call_soon_threadsafe(self.stopped.set)
            thread.join()


# Targets: each yields the port that the example connects to


@contextlib.contextmanager
def direct(rig, proxy, args, database, pool):
    yield proxy.port


@contextlib.contextmanager
def pgbouncer(rig, proxy, args, database, pool):
    port = free_port()
    (rig.dir / "userlist.txt").write_text('"app" "app"\n')
    config, log = rig.dir / "pgbouncer.ini", rig.dir / "pgbouncer.log"
    config.write_text(f"""[databases]
{database} = host=127.0.0.1 port={proxy.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {rig.dir}/userlist.txt
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 200
server_tls_sslmode = disable
""")
    binary = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    with running([binary, config], log, user=rig.owner) as process:
        wait_for(lambda: accepts(port), process, log)
        yield port


def tenantry_config(args, port, database, pool):
    """The examples' own configuration, with this cell's places and sizes."""
    listen = '{ address = "127.0.0.1:0", tenant = "public" }' if args.tenant_from == "fixed" else '"127.0.0.1:0"'
    changes = {
        '"127.0.0.1:6432"': listen,
        "port = 5432": f"port = {port}",
        'database = "app"': f'database = "{database}"',
        "max_server_connections = 20": f"max_server_connections = {pool}",
        '["search_path"]': f'["{args.tenant_from}"]',
    }
    text = (HERE / "tenantry.toml").read_text()
    for old, new in changes.items():
        if old not in text:
            raise RuntimeError(f"tenantry.toml: no {old}")
        text = text.replace(old, new)
    return text + '[tls.server]\nmode = "disable"\n'  # the proxy reads what PostgreSQL says


@contextlib.contextmanager
def tenantry(rig, proxy, args, database, pool):
    config, log = rig.dir / "tenantry.toml", rig.dir / "tenantry.log"
    config.write_text(tenantry_config(args, proxy.port, database, pool))
    log.unlink(missing_ok=True)
    with running([args.tenantry, "serve", "-c", config, "--log-format", "json"], log) as process:
        yield wait_for(lambda: listening(log), process, log)


def listening(log):
    """The port in Tenantry's log, once it is there."""
    for line in log.read_text().splitlines():
        if '"listening"' in line:
            return int(re.search(r"127\.0\.0\.1:(\d+)", line)[1])


TARGETS = {"direct": direct, "pgbouncer": pgbouncer, "tenantry": tenantry}


# Examples


def virtualenv(cache, example):
    """The example's virtualenv, made anew when its requirements change; by one process, and others wait for it."""
    (cache / "examples").mkdir(parents=True, exist_ok=True)
    with open(cache / "examples" / f"{example}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return made(cache, example)


def made(cache, example):
    path, wanted = cache / "examples" / example, (HERE / example / "requirements.txt").read_text()
    stamp = path / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making the virtualenv of {example}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", path], check=True)
        pip = [path / "bin/pip", "install", "-q", "--disable-pip-version-check", "-r"]
        subprocess.run([*pip, HERE / example / "requirements.txt"], check=True)
        stamp.write_text(wanted)
    return path / "bin"


def environment(port, database, variant):
    """All of it: nothing of the caller's own settings slips in."""
    settings = {
        "PATH": os.environ["PATH"],
        "DATABASE_HOST": "127.0.0.1",
        "DATABASE_PORT": str(port),
        "DATABASE_NAME": database,
    }
    settings |= {"DATABASE_USER": "app", "DATABASE_PASSWORD": "app"}
    # The proxy reads what PostgreSQL says, so nothing may be encrypted.
    settings |= {"PGSSLMODE": "disable", "PGGSSENCMODE": "disable", "PYTHONDONTWRITEBYTECODE": "1"}
    return settings | VARIANTS[variant]


def fill(rig, bin, example, port, database):
    """Migrates and loads an empty database through the target."""
    rig.new_database(database)
    env = environment(port, database, "default")
    for command in EXAMPLES[example]:
        go_on()
        names = tenants(example) if command is CREATE else []
        manage([bin / "python", "manage.py", *command, *names], cwd=HERE / example, env=env)
    loaded, *_ = audit(rig, database, example)
    wanted = NOTES * len(tenants(example))
    if loaded != wanted:
        raise RuntimeError(f"{loaded} notes are where they belong, not {wanted}")


def manage(command, **options):
    name = " ".join(command[1:3])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CELL_TIMEOUT, **options)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{name}: more than {CELL_TIMEOUT} s") from None
    if done.returncode:
        raise RuntimeError(f"{name}: {cause(done.stderr)}")


def cause(text):
    """The exception of a traceback, which may be followed by the statement that it is about."""
    lines = [line for line in text.splitlines() if re.match(r"[\w.]+: ", line)]
    return lines[-1] if lines else text.strip()


@contextlib.contextmanager
def serving(rig, bin, example, port, database, variant):
    """The example under gunicorn; yields its port."""
    http_port, log = free_port(), rig.dir / f"{example}.log"
    command = [bin / "gunicorn", "project.wsgi", "--workers=1", "--threads=8", f"--bind=127.0.0.1:{http_port}"]
    command += ["--no-control-socket", "--graceful-timeout=5"]
    env = environment(port, database, variant)
    with running(command, log, cwd=HERE / example, env=env) as process:
        wait_for(lambda: accepts(http_port), process, log)
        yield http_port


def audit(rig, database, example):
    """How many notes of all schemas were loaded rightly, are another tenant's, were undone, were written."""
    notes = [f"SELECT '{tenant}' AS owner, * FROM \"{tenant}\".notes_note" for tenant in tenants(example)]
    wanted = "tenant = owner AND body = 'loaded'", "tenant <> owner", "body = 'undone'", "body = 'written'"
    counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in wanted)
    [row] = rig.psql(database, f"SELECT {counts} FROM ({' UNION ALL '.join(notes)}) AS notes")
    return list(map(int, row))


def clean(rig, database, example):
    """Leaves only what was loaded, for the next cell."""
    sql = """DELETE FROM "{0}".notes_tag WHERE name <> 'loaded'; DELETE FROM "{0}".notes_note WHERE body <> 'loaded';"""
    rig.psql(database, " ".join(sql.format(tenant) for tenant in tenants(example)))


# Requests


def ask(port, tenant, kind):
    """One request; "ok", or what is wrong with the answer as (class, detail)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT)
    try:
        method = "POST" if kind == "write" else "GET"
        connection.request(method, f"/{kind}", headers={"Host": f"{tenant}.example.test"})
        response = connection.getresponse()
        body = response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return "error", f"{kind}: {type(error).__name__}: {error}"
    finally:
        connection.close()
    if response.status != 200:
        return "error", f"{kind}: {response.status} {' '.join(body.split())[:300]}"
    rows = json.loads(body)["rows"]
    strangers = {row["tenant"] for row in rows} - {tenant}
    if strangers:
        return "wrong", f"{kind}: {tenant} was answered rows of {', '.join(sorted(strangers))}"
    if len(rows) < ROWS[kind]:
        return "error", f"{kind}: {len(rows)} rows of {ROWS[kind]}"
    return "ok", ""


class Load:
    """Many clients that work off one list of requests."""

    def __init__(self, port, names, args):
        draw = random.Random(args.seed)  # the same requests in every cell
        self.plan = [(draw.choice(names), draw.choice(args.kinds)) for _ in range(args.requests)]
        self.port = port
        self.lock, self.deadline = threading.Lock(), time.monotonic() + CELL_TIMEOUT
        self.outcomes, self.details, self.written = collections.Counter(), collections.Counter(), 0

    def client(self):
        while time.monotonic() < self.deadline and not STOP.is_set():
            with self.lock:
                if not self.plan:
                    return
                tenant, kind = self.plan.pop()
            outcome, detail = ask(self.port, tenant, kind)
            with self.lock:
                self.outcomes[outcome] += 1
                self.written += outcome == "ok" and kind == "write"
                if detail:
                    self.details[detail] += 1

    def run(self):
        threads = [threading.Thread(target=self.client, daemon=True) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        go_on()
        if self.plan:
            self.outcomes["error"] += len(self.plan)
            self.details[f"not asked: {CELL_TIMEOUT} s were over"] += len(self.plan)


# The matrix


class Result:
    """A cell's counts, and why they are not all right."""

    def __init__(self, cell):
        self.cell, self.ok, self.wrong, self.errors, self.misplaced, self.trips = cell, 0, 0, 0, 0, ""
        self.details = collections.Counter()

    @property
    def good(self):
        return not (self.wrong or self.errors or self.misplaced)

    def row(self):
        return [*self.cell, self.ok, self.wrong, self.errors, self.misplaced, self.trips]


HEADINGS = ["example", "target", "pool", "settings", "ok", "wrong", "errors", "misplaced rows", "round trips/request"]


def run_fill(rig, proxy, args, bin, result, database):
    cell = result.cell
    with TARGETS[cell.target](rig, proxy, args, database, cell.pool) as port:
        fill(rig, bin, cell.example, port, database)
    result.ok = 1


def run_cell(rig, proxy, args, bin, result, database):
    cell = result.cell
    with TARGETS[cell.target](rig, proxy, args, database, cell.pool) as port:
        with serving(rig, bin, cell.example, port, database, cell.variant) as http_port:
            before = proxy.round_trips
            load = Load(http_port, tenants(cell.example), args)
            load.run()
            result.trips = f"{(proxy.round_trips - before) / args.requests:.1f}"
    result.ok, result.wrong, result.errors = (load.outcomes[name] for name in ("ok", "wrong", "error"))
    result.details = load.details
    check_stored(rig, database, load, result)


def check_stored(rig, database, load, result):
    """What the cell left in the tables: nothing of a stranger's, nothing undone, nothing lost."""
    _, result.misplaced, undone, written = audit(rig, database, result.cell.example)
    lost = max(0, load.written - written)
    result.errors += undone + lost
    result.details["stored although it was undone"] = undone
    result.details["lost although it was answered"] = lost
    result.details = +result.details  # without what is 0
    clean(rig, database, result.cell.example)


def attempt(run, rig, proxy, args, bin, cell, database):
    result = Result(cell)
    try:
        run(rig, proxy, args, bin, result, database)
    except RuntimeError as error:
        result.errors += 1
        result.details[str(error)] += 1
    return result


def cells(args, example, target):
    """An example's cells at a target. Quick ones take another variant at every pool size and example."""
    variants = [v for v in args.variants if "pool" not in v or example not in WITHOUT_NATIVE_POOL]
    pools = ["-"] if target == "direct" else args.pools
    for at, pool in enumerate(pools):
        chosen = variants
        if args.quick:
            chosen = [variants[(at + 2 * list(EXAMPLES).index(example)) % len(variants)]]
        for variant in chosen:
            yield Cell(example, target, pool, variant)


def run_all(rig, proxy, args):
    for example in args.examples:
        bin = virtualenv(args.cache, example)
        for target in args.targets:
            database = f"{example}_{target}".replace("-", "_")
            pool = "-" if target == "direct" else max(args.pools)
            filled = attempt(run_fill, rig, proxy, args, bin, Cell(example, target, pool, "migrate and load"), database)
            yield filled
            if filled.errors:
                continue
            for cell in cells(args, example, target):
                yield attempt(run_cell, rig, proxy, args, bin, cell, database)


def line(columns):
    return f"| {' | '.join(map(str, columns))} |"


def main():
    args = arguments()
    results = []
    print(f"seed {args.seed}; {args.requests} requests a cell")
    table = [line(HEADINGS), line(["---"] * len(HEADINGS))]
    print("\n".join(table), flush=True)
    with tempfile.TemporaryDirectory(prefix="tenantry-examples-") as directory:
        rig = Rig(directory, args.bindir)
        with rig.postgres(), Proxy(rig.port).serving() as proxy:
            for result in run_all(rig, proxy, args):
                results.append(result)
                table.append(line(result.row()))
                print(table[-1], flush=True)
                for detail, times in result.details.most_common(args.details):
                    print(f"  {times} x {detail}", flush=True)
    if args.table:
        args.table.write_text("\n".join(table) + "\n")
    judged = [result for result in results if result.cell.target != "pgbouncer"]
    failed = sum(not result.good for result in judged)
    print(f"{len(judged) - failed} passed, {failed} failed")
    return failed != 0


def absolute(path):
    return pathlib.Path(path).resolve()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    bins = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
    add = parser.add_argument
    add("--targets", nargs="+", choices=TARGETS, help="default: direct, and tenantry with --tenantry")
    add("--examples", nargs="+", choices=EXAMPLES, default=list(EXAMPLES))
    add("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    add("--pools", nargs="+", type=int, default=[1, 2, 20], help="server connections that a pooler may have")
    add("--kinds", nargs="+", choices=ROWS, default=list(ROWS), help="of requests")
    add("--requests", type=int, help="a cell; default 300, or 100 with --quick")
    add("--quick", action="store_true", help="one cell for each example and pool size")
    add("--seed", type=int, default=random.randrange(1_000_000))
    add("--details", type=int, default=3, help="how many kinds of failure to show of a cell")
    add("--table", type=absolute, help="a file for the table, in Markdown")
    add("--tenantry", type=absolute, help="its binary")
    fixed = "; fixed: one for all, whose SETs pin their sessions, so the pool must hold every connection"
    add("--tenant-from", choices=["search_path", "fixed"], default="search_path", help="Tenantry's source" + fixed)
    add("--bindir", type=absolute, default=bins[-1] if bins else None, help="PostgreSQL's programs")
    add("--cache", type=absolute, default=pathlib.Path(cache) / "tenantry", help="for the virtualenvs")
    args = parser.parse_args()
    args.targets = args.targets or (["direct", "tenantry"] if args.tenantry else ["direct"])
    args.requests = args.requests or (100 if args.quick else 300)
    if "tenantry" in args.targets and not args.tenantry:
        parser.error("the target tenantry needs --tenantry")
    if not args.bindir:
        parser.error("no PostgreSQL found: apt-get install postgresql, or give --bindir")
    return args


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    signal.signal(signal.SIGINT, lambda *_: STOP.set())
    try:
        sys.exit(main())
    except Stopped:
        sys.exit("stopped")
