"""The scenarios, by name: what clients do, and what is asked of the poolers for it.

Scenarios of a group are measured in the same rounds, so that they can be compared with each other, too.
"""

from dataclasses import dataclass, field

from contenders import Secret, Setup
from loads import Copy, Generated, Pgbench

DJANGO = """\\set aid random(1, 500000)
set search_path to public;
begin;
select abalance from pgbench_accounts where aid = :aid;
commit;
"""
NO_PREPARED = {"pgbouncer": "1.18 does not track prepared statements in transaction mode"}
NO_TENANTS = {"direct": "there is no pooler to measure", "pgbouncer": "it knows no tenants"}
NO_POOLER = {"direct": "there is no pooler to measure"}


@dataclass(frozen=True)
class Idle:
    """So many clients that log in and rest."""

    count: int
    tls: bool = False


@dataclass(frozen=True)
class Scenario:
    name: str
    group: str
    load: object
    setup: Setup = Setup()
    unit: str = "transaction"
    short: bool = False  # also in the short set
    callgrind: tuple = ()  # units of the short and the long run; (): not counted
    left_out: dict = field(default_factory=dict, hash=False)  # contender -> why


def statements():
    """`pgbench -S` by each protocol, and transactions as Django makes them."""
    for protocol in ("simple", "extended", "prepared"):
        for clients in (1, 8, 32, 128):
            short = clients == 8 or (protocol == "simple" and clients < 128)
            yield Scenario(f"{protocol}, {clients}", protocol, Pgbench(clients, protocol), short=short,
                           callgrind=(500, 2500) if clients in (8, 32) else (),
                           left_out=NO_PREPARED if protocol == "prepared" else {})
        if protocol == "simple":
            yield Scenario("simple, 8, by unix socket", protocol, Pgbench(8), Setup(unix=True))
    yield Scenario("simple over TLS, 8", "simple over TLS", Pgbench(8, tls=True), short=True, callgrind=(500, 2500))
    yield Scenario("django, 8", "django", Pgbench(8, script=DJANGO), short=True, callgrind=(300, 1500))


def logins():
    """A connection for every transaction, by SCRAM."""
    for secret in (Secret.VERIFIER, Secret.PASSWORD):
        for tls in (False, True):
            name = f"login, {secret.value}" + (" over TLS" if tls else "")
            yield Scenario(name, "login", Pgbench(8, tls=tls, connect=True), Setup(secret=secret), "connection",
                           short=secret is Secret.VERIFIER, callgrind=(40, 200))


def copies():
    for direction in ("out", "in"):
        for tls in (False, True):
            yield Scenario(f"copy {direction}" + (" over TLS" if tls else ""), f"copy {direction}", Copy(direction, tls),
                           unit="gigabyte", short=not tls)


def tenants():
    """Few servers for more tenants, the same without switches, and tenants that are only known."""
    for name, count in (("20 tenants over 10 servers", 20), ("1 tenant over 10 servers", 1)):
        yield Scenario(name, "tenants", Generated(20, tenants=count), Setup(pool_size=10, tenants=20), short=True,
                       callgrind=(500, 2500), left_out=NO_POOLER)
    for known in (10, 50_000):
        yield Scenario(f"{known} known tenants", "known tenants", Generated(10, tenants=10), Setup(pool_size=10, tenants=known),
                       callgrind=(500, 2500), left_out=NO_TENANTS)


def pools():
    """The same 2,000 transactions a second of 200 clients: through 200 pools of one server, and through one pool."""
    names = tuple(f"d{number:03}" for number in range(200))
    yield Scenario("200 pools", "pools", Generated(200, databases=200, rate=2000), Setup(names, pool_size=1),
                   callgrind=(500, 2500), left_out=NO_POOLER)
    yield Scenario("1 pool", "pools", Generated(200, rate=2000), callgrind=(500, 2500), left_out=NO_POOLER)


def resting():
    for tls in (False, True):
        for count in (2000, 5000):
            name = f"{count} idle" + (" over TLS" if tls else "")
            yield Scenario(name, name, Idle(count, tls), unit="client", short=count == 5000, left_out=NO_POOLER)


SCENARIOS = [*statements(), *logins(), *copies(), *tenants(), *pools(), *resting()]
