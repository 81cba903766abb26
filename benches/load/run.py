#!/usr/bin/env python3
"""What Tenantry costs, beside PgBouncer and PostgreSQL itself: contenders in turn, round by round.

Starts a throw-away PostgreSQL and, for each group of scenarios, every pooler anew in transaction mode. Prints
medians a transaction (or connection, gigabyte, client) and ratios to PgBouncer's; the results, each round of
them, go to benches/results/DATE-SET.json. Only ratios mean anything: all share the machine with the clients and
PostgreSQL. System calls are counted in a pass of their own; instructions in user mode by the machine's counters,
or in another pass by callgrind where it has none (then those in the kernel are not counted at all).

    benches/load/run.py                         the short set, under ten minutes
    benches/load/run.py --set full              everything
    benches/load/run.py --only 'simple|copy'    what these match, of the chosen set; shown, not written
    benches/load/run.py --before ./tenantry-1   another build of Tenantry as well; the one of benches/pgo comes
                                                by itself, if it was made
    benches/load/run.py --pg-port 5599 --target odyssey.toml
                                                a pooler that you have started in front of that port

Needs (Debian): postgresql postgresql-contrib pgbouncer linux-perf strace valgrind openssl, and a release build;
another one to measure goes into TENANTRY_BENCH_BIN. 5,000 idle clients need `ulimit -n` of 12000.
"""

import argparse, itertools, os, re, resource, signal, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import contenders as places
import loads, measure, passes, results
from contenders import LOGIN, PASSWORD, Secret
from loads import Limit, LoadFailed
from rig import Rig
from scenarios import Idle, SCENARIOS

DEFAULTS = {"short": {"rounds": 3, "seconds": 1}, "full": {"rounds": 5, "seconds": 4}}
SYSCALLS_SECONDS = 1
WARM_UP_COUNT = 500  # units; logs the servers in
SHOWN = ["cpu_us", "cpu_s", "user_instructions", "kernel_instructions", "syscalls", "context_switches", "per_second", "mb_per_s",
         "p50_ms", "p99_ms", "pss_kb_per_client"]


class Group:
    """Scenarios that are measured in the same rounds, and who takes part in them."""

    def __init__(self, rig, scenarios, starts, args):
        self.rig, self.scenarios, self.starts, self.args = rig, scenarios, starts, args
        self.running = {}  # (setup, contender's name) -> Contender, or None if it does not take part
        self.rows = {(scenario, name): {"rounds": []} for scenario in scenarios for name in starts if name not in scenario.left_out}

    def run(self):
        for turn in range(self.args.rounds):
            for (scenario, name), row in self.rows.items():
                self.attempt(row, self.round, scenario, name, turn)
        for (scenario, name), row in self.rows.items():
            if row["rounds"]:
                self.attempt(row, self.extra_passes, scenario, name)
        for contender in self.running.values():
            if contender and contender.process:
                self.rig.stop(contender.process)
        return {scenario.name: self.result(scenario) for scenario in self.scenarios}

    def attempt(self, row, step, scenario, name, *rest):
        """One contender's failure does not end the others' run, nor its own next rounds."""
        try:
            step(row, scenario, name, *rest)
        except (LoadFailed, OSError, RuntimeError, subprocess.SubprocessError) as error:
            if "error" not in row:
                print(f"{scenario.name}: {name} failed: {error}", file=sys.stderr, flush=True)
            row.setdefault("error", str(error))

    def contender(self, scenario, name):
        key = (scenario.setup, name)
        if key not in self.running:
            self.running[key] = self.starts[name](self.rig, scenario.setup)
        return self.running[key]

    def round(self, row, scenario, name, turn):
        contender = self.contender(scenario, name)
        if contender is None:
            return
        if isinstance(scenario.load, Idle):
            # Only a process that has not had clients before shows what each of them takes.
            if turn == 0:
                row["rounds"].append(measure.idle(contender, scenario.load.count, scenario.load.tls))
            return
        if turn == 0 and scenario.unit == "transaction":
            scenario.load.run(self.rig, contender, Limit(count=WARM_UP_COUNT))
        row["rounds"].append(measure.run(self.rig, contender, scenario, Limit(seconds=self.args.seconds)))

    def extra_passes(self, row, scenario, name):
        contender = self.contender(scenario, name)
        row["median"] = results.medians(row["rounds"])
        if isinstance(scenario.load, Idle) or contender.pid is None:
            return
        total, row["syscalls_by_call"] = passes.system_calls(self.rig, contender, scenario, Limit(seconds=SYSCALLS_SECONDS))
        row["median"] |= total
        if scenario.callgrind and name != "tenantry-2" and not measure.countable("instructions:u"):
            count = passes.user_instructions(self.rig, self.starts[name], scenario)
            row["median"] |= {"user_instructions": count} if count else {}

    def result(self, scenario):
        rows = {name: row for (of, name), row in self.rows.items() if of is scenario and (row["rounds"] or "error" in row)}
        return {"unit": scenario.unit, "left_out": scenario.left_out, "contenders": rows}


def prepare(rig, scenarios, port):
    """PostgreSQL with every database that is asked for, a role with a password, and a certificate."""
    rig.tls = rig.certificate()
    cert, key = rig.tls
    rig.postgres(settings=["max_connections=2000", "shared_buffers=256MB", "ssl=on", f"ssl_cert_file={cert}", f"ssl_key_file={key}"],
                 port=port, hba=[f"host all {LOGIN} 127.0.0.1/32 scram-sha-256"])
    rig.sql("acme", f"create role {LOGIN} login password '{PASSWORD}'; grant select on all tables in schema public to {LOGIN}")
    rig.sql("acme", "create unlogged table sink (line text)")
    verifier = loads.client(places.direct(rig, places.Setup()), False, "psql", "-Atc",
                            f"select rolpassword from pg_authid where rolname = '{LOGIN}'").strip()
    rig.secrets = {Secret.PASSWORD: PASSWORD, Secret.VERIFIER: verifier}
    for database in sorted({database for scenario in scenarios for database in scenario.setup.databases} - {"acme"}):
        rig.sql("postgres", f"create database {database}")


def show(name, result):
    """A line for each contender, and its ratios to PgBouncer."""
    base = result["contenders"].get("pgbouncer", {}).get("median", {})
    for contender, row in result["contenders"].items():
        median = row.get("median", {})
        print(f"{name:<28}{contender:<12}", *(f"{key} {median[key]:.4g}" for key in SHOWN if key in median), flush=True)
        if contender not in ("pgbouncer", "direct"):
            ratios = [f"{key} {median[key] / base[key]:.2f}" for key in SHOWN if median.get(key) and base.get(key)]
            if ratios:
                print(f"{'':<28}{'  ratio':<12}", *ratios, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=DEFAULTS, default="short", help="default: short")
    parser.add_argument("--only", metavar="REGEX", default="", help="only scenarios whose name has a match")
    parser.add_argument("--rounds", type=int, help="of each scenario and contender; default: 3, full 5")
    parser.add_argument("--seconds", type=int, help="of each round; default: 1, full 4")
    parser.add_argument("--before", metavar="PATH", help="another build of Tenantry, as contender `before`")
    parser.add_argument("--target", metavar="FILE", action="append", default=[],
                        help="a pooler that runs already, as TOML: name, host, port, pid, perhaps user and database; may be repeated")
    parser.add_argument("--pg-port", type=int, help="PostgreSQL's port, for the configuration of targets (database acme, user bench)")
    parser.add_argument("--list", action="store_true", help="print the scenarios' names, and end")
    args = parser.parse_args()
    args.rounds = args.rounds or DEFAULTS[args.set]["rounds"]
    args.seconds = args.seconds or DEFAULTS[args.set]["seconds"]
    return args


def main():
    args = arguments()
    chosen = [s for s in SCENARIOS if (args.set == "full" or s.short) and re.search(args.only, s.name)]
    if args.list:
        return print("\n".join(scenario.name for scenario in chosen))
    if not chosen:
        sys.exit("no scenario of that name; --list prints them")
    starts = places.contenders(args.before, args.target)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    rig, failed = Rig(), False
    try:
        prepare(rig, chosen, args.pg_port)
        found = results.heading(rig, args) | {"scenarios": {}}
        for _, members in itertools.groupby(chosen, key=lambda scenario: scenario.group):
            for name, result in Group(rig, list(members), starts, args).run().items():
                found["scenarios"][name] = result
                failed |= any("error" in row for row in result["contenders"].values())
                show(name, result)
            # After each group: who ends a long run keeps what there is. A part is not taken for the whole.
            if not args.only:
                results.write(found)
    except KeyboardInterrupt:
        sys.exit("ended by Ctrl-C")
    finally:
        rig.close()
    if failed:
        sys.exit("not everybody got through; see above")


if __name__ == "__main__":
    main()
