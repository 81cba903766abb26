"""What clients do: each load drives a contender up to a limit and says how much it did.

Everything is counted in a load's unit: transactions, connections or gigabytes (1e9 bytes).
"""

import glob, os, re, subprocess, time
from dataclasses import dataclass

import loadgen
from contenders import PASSWORD

BYTES_A_SECOND = {"out": 100_000_000, "in": 25_000_000}  # so that a run takes about its seconds
ROW = "x" * 99


class LoadFailed(Exception):
    """A client was refused, or got an error for an answer."""


@dataclass(frozen=True)
class Limit:
    """The end of a run: by time or by count."""

    seconds: float | None = None
    count: int | None = None


@dataclass
class Work:
    count: float
    per_second: float
    latencies_us: list  # empty where they mean nothing


def client(contender, tls, *command, **redirected):
    """Runs psql or pgbench to its end: its output."""
    environment = os.environ | {"PGSSLMODE": "require" if tls else "disable", "PGGSSENCMODE": "disable", "PGPASSWORD": PASSWORD}
    address = ["-h", contender.host, "-p", str(contender.port), "-U", contender.user]
    redirected = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | redirected
    run = subprocess.run([*command, *address, contender.database], stderr=subprocess.PIPE, text=True, env=environment,
                         start_new_session=True, **redirected)
    if run.returncode:
        raise LoadFailed(f"{command[0]}: {run.stderr.strip()[-300:]}")
    return run.stdout


@dataclass(frozen=True)
class Pgbench:
    """`pgbench -S`, or a script; with `connect`, a connection for every transaction."""

    clients: int
    protocol: str = "simple"
    tls: bool = False
    connect: bool = False
    script: str | None = None

    def run(self, rig, contender, limit):
        prefix = os.path.join(rig.dir, "latency")
        until = ["-T", str(limit.seconds)] if limit.seconds else ["-t", str(max(1, limit.count // self.clients))]
        # pgbench leaves the connecting out of what it logs, so with -C there is no log.
        how = ["-C"] if self.connect else ["-l", f"--log-prefix={prefix}"]
        output = client(contender, self.tls, "pgbench", "-n", *self.statements(rig), "-M", self.protocol,
                        "-c", str(self.clients), *until, *how)
        latencies = []
        for path in glob.glob(f"{prefix}.*"):
            with open(path) as lines:
                latencies += [int(line.split(None, 3)[2]) for line in lines]
            os.remove(path)
        done = re.search(r"actually processed: (\d+).*tps = ([\d.]+)", output, re.S)
        if not done:
            raise LoadFailed(f"pgbench made no transaction: {output.strip()[-300:]}")
        return Work(int(done.group(1)), float(done.group(2)), latencies)

    def statements(self, rig):
        if not self.script:
            return ["-S"]
        path = os.path.join(rig.dir, "script.sql")
        with open(path, "w") as f:
            f.write(self.script)
        return ["-f", path]


@dataclass(frozen=True)
class Generated:
    """Clients of `loadgen`, spread over tenants or databases; `rate`: transactions a second, else all they can."""

    clients: int
    tenants: int = 0
    databases: int = 0
    rate: int | None = None

    def run(self, rig, contender, limit):
        clients = []
        try:
            for number in range(self.clients):
                tenant = f"t{number % self.tenants}" if self.tenants else None
                database = f"d{number % self.databases:03}" if self.databases else None
                clients.append(loadgen.login(contender.host, contender.port, contender.startup(database, tenant)))
            latencies, seconds = loadgen.generate(clients, loadgen.query("select 1"), limit, self.rate)
        except (OSError, RuntimeError) as error:
            raise LoadFailed(str(error)) from error
        finally:
            loadgen.log_out(clients)
        return Work(len(latencies), len(latencies) / seconds, latencies)


@dataclass(frozen=True)
class Copy:
    """COPY of rows of 100 bytes, through psql; a limit by count is one in megabytes."""

    direction: str  # out or in
    tls: bool = False

    def run(self, rig, contender, limit):
        size = limit.count * 1_000_000 if limit.count else int(limit.seconds * BYTES_A_SECOND[self.direction])
        rows = size // (len(ROW) + 1)
        begun = time.monotonic()
        if self.direction == "out":
            sql = f"copy (select '{ROW}' from generate_series(1, {rows})) to stdout"
            client(contender, self.tls, "psql", "-q", "-c", sql, stdout=subprocess.DEVNULL)
        else:
            path = os.path.join(rig.dir, f"rows-{rows}")
            if not os.path.exists(path):
                with open(path, "w") as f:
                    f.writelines(f"{ROW}\n" for _ in range(rows))
            rig.sql("acme", "truncate sink")
            begun = time.monotonic()
            with open(path) as f:
                client(contender, self.tls, "psql", "-q", "-c", "copy sink from stdin", stdin=f)
        gigabytes = rows * (len(ROW) + 1) / 1e9
        return Work(gigabytes, gigabytes / (time.monotonic() - begun), [])
