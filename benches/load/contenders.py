"""Who is measured: PostgreSQL itself, Tenantry, PgBouncer, and whoever a target file names.

All contenders of a scenario get the same pool size, secrets and certificate. Towards PostgreSQL none
of them uses TLS: what is measured is the clients' side.
"""

import os, sys, tomllib
from dataclasses import dataclass
from enum import Enum

from rig import ROOT, SOCKETS, TRUST

PGO = os.path.join(ROOT, "target/pgo/release/tenantry")  # made by benches/pgo/run.py
CLIENTS_MAX = 6000
LOGIN, PASSWORD = "login", "correct horse battery staple"


class Secret(Enum):
    """What the pooler knows of a client's password."""

    NONE = "trust"
    VERIFIER = "verifier"
    PASSWORD = "password"


@dataclass(frozen=True)
class Setup:
    """What a scenario asks of a pooler."""

    databases: tuple = ("acme",)
    pool_size: int = 20  # servers of each database
    secret: Secret = Secret.NONE
    tenants: int = 0  # so many known tenants, named by the user (`bench.t0`); 0: the database is the tenant
    unix: bool = False  # PostgreSQL is reached by its unix socket


@dataclass
class Contender:
    name: str
    port: int
    pid: int | None = None  # None: nothing but the load itself is measured
    process: object = None  # None: it was there before
    host: str = "127.0.0.1"
    user: str = "bench"
    database: str = "acme"
    names_tenants: bool = False

    def startup(self, database=None, tenant=None):
        """Startup parameters; a pooler that knows no tenants gets the tenant as application_name."""
        parameters = {"user": self.user, "database": database or self.database}
        if tenant and self.names_tenants:
            parameters["user"] += f".{tenant}"
        elif tenant:
            parameters["application_name"] = tenant
        return parameters


def user_of(setup):
    return "bench" if setup.secret is Secret.NONE else LOGIN


def server_of(setup):
    """PostgreSQL's host."""
    return SOCKETS if setup.unix else "127.0.0.1"


def direct(rig, setup, wrapper=()):
    return Contender("direct", rig.pg_port, host=server_of(setup), user=user_of(setup))


def pgbouncer(rig, setup, wrapper=()):
    cert, key = rig.tls
    settings = f"""default_pool_size = {setup.pool_size}
max_client_conn = {CLIENTS_MAX}
client_tls_sslmode = allow
client_tls_cert_file = {cert}
client_tls_key_file = {key}
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0"""
    auth = "auth_type = any"
    if setup.secret is not Secret.NONE:
        users = os.path.join(rig.dir, f"userlist-{setup.secret.value}.txt")
        with open(users, "w") as f:
            f.write(f'"{LOGIN}" "{rig.secrets[setup.secret]}"\n')
        auth = f"auth_type = scram-sha-256\nauth_file = {users}"
    process, port = rig.pgbouncer(setup.databases, settings, wrapper, auth, server_of(setup))
    return Contender("pgbouncer", port, process.pid, process, user=user_of(setup))


def tenantry(name, workers=1, binary=None):
    """A way to start Tenantry: `name` is the contender's."""

    def start(rig, setup, wrapper=()):
        cert, key = rig.tls
        general = f"workers = {workers}\nmax_client_conn = {CLIENTS_MAX}"
        cluster = f'host = "{server_of(setup)}"\nmax_server_connections = {setup.pool_size * len(setup.databases)}'
        if setup.tenants:
            cluster += '\ndatabase = "acme"'
        auth = TRUST
        if setup.secret is not Secret.NONE:
            auth = f"""[auth]
type = "scram-sha-256"
[users.{LOGIN}]
password = "{rig.secrets[setup.secret]}"
tenants = ["*"]"""
        tls = f'[tls.client]\ncert = "{cert}"\nkey = "{key}"\n[tls.server]\nmode = "disable"\n'
        process, port = rig.tenantry(general, cluster, tls + tenancy(setup), wrapper, auth, binary)
        return Contender(name, port, process.pid, process, user=user_of(setup), names_tenants=setup.tenants > 0)

    return start


def tenancy(setup):
    """Tenants by database, or each with a setting of its own in one database."""
    quotas = f"max_client_connections = {CLIENTS_MAX}\nmax_server_connections = {setup.pool_size}\n"
    if setup.tenants:
        source = 'tenant_from = ["user:."]\nsettings = { "app.tenant" = "{tenant}" }\n'
        tenants = [f"[tenants.t{number}]" for number in range(setup.tenants)]
    else:
        source = 'tenant_from = ["database"]\n'
        tenants = [f'[tenants.{database}]\ndatabase = "{database}"' for database in setup.databases]
    return f"[tenancy]\n{source}{quotas}" + "\n".join(tenants)


def target(path):
    """Somebody who is there already: `name`, `host`, `port`, `pid`, and perhaps `user` and `database`.

    It is measured where nothing special is asked of a pooler; its pool size is its owner's business.
    """
    try:
        with open(path, "rb") as f:
            fields = tomllib.load(f)
    except (OSError, tomllib.TOMLDecodeError) as error:
        sys.exit(f"{path}: {error}")
    known = {"name": str, "host": str, "port": int, "pid": int, "user": str, "database": str}
    for key, value in fields.items():
        if key not in known or not isinstance(value, known[key]):
            sys.exit(f"{path}: {key} = {value!r} is not understood; known are {', '.join(known)}")
    for key in ("name", "host", "port", "pid"):
        if key not in fields:
            sys.exit(f"{path}: {key} is missing")
    return fields["name"], lambda rig, setup, wrapper=(): Contender(**fields) if setup == Setup() else None


def contenders(before, targets):
    """Name -> how it is started."""
    starts = {"direct": direct, "pgbouncer": pgbouncer, "tenantry": tenantry("tenantry"),
              "tenantry-2": tenantry("tenantry-2", workers=2)}
    if os.path.exists(PGO):
        starts["tenantry-pgo"] = tenantry("tenantry-pgo", binary=PGO)
    if before:
        starts["before"] = tenantry("before", binary=os.path.abspath(before))
    return starts | dict(target(path) for path in targets)
