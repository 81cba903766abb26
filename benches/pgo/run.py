#!/usr/bin/env python3
"""Builds Tenantry once more, with a profile of what it does under load (PGO): target/pgo/release/tenantry.

Builds it with counters, has it serve what `benches/load` measures (statements by each protocol, a tenant
a transaction, COPY, logins), and gives the counts to the compiler. Takes two builds and half a minute of load.

    benches/pgo/run.py

Needs what `benches/load` needs, and `llvm-profdata` of LLVM 19 or newer: `rustup component add llvm-tools`,
or (Debian) llvm-19.
"""

import argparse, glob, os, re, shutil, signal, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from rig import ROOT, Rig

TARGET = os.path.join(ROOT, "target", "pgo")
SECONDS = 2
ROWS = "select repeat(md5(n::text), 4) from generate_series(1, 200000) n"


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def profdata():
    """The tool of rustc's own LLVM, else the newest one of the system: an older one cannot read the counts."""
    host = re.search(r"host: (\S+)", output("rustc", "-vV")).group(1)
    own = os.path.join(output("rustc", "--print", "sysroot"), "lib/rustlib", host, "bin/llvm-profdata")
    number = lambda path: int((re.findall(r"-(\d+)$", path) or [0])[0])
    found = [path for path in glob.glob("/usr/bin/llvm-profdata*") if number(path) >= 19]
    tool = own if os.path.exists(own) else max(found, key=number, default=None)
    return tool or sys.exit("no llvm-profdata: rustup component add llvm-tools, or apt-get install llvm-19")


def build(directory, flags):
    # A target of its own: else the counters would be in build scripts and macros too.
    host = re.search(r"host: (\S+)", output("rustc", "-vV")).group(1)
    subprocess.run(["cargo", "build", "--release", "--locked", "--package", "tenantry", "--quiet", "--target", host,
                    "--target-dir", directory], check=True, cwd=ROOT,
                   env={**os.environ, "RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} {flags}"})
    return os.path.join(directory, host, "release", "tenantry")


def serve(rig, binary):
    """A pooler in which user `bench.x` is the tenant x, and everybody shares ten servers."""
    tenants = "".join(f"[tenants.t{n}]\n" for n in range(20))
    rest = f"[tenancy]\ntenant_from = [\"user:.\"]\nsettings = {{ \"app.tenant\" = \"{{tenant}}\" }}\n{tenants}"
    return rig.tenantry("", "database = \"acme\"\nmax_server_connections = 10", rest, binary=binary)


def load(rig, port):
    def as_tenant(n):
        return ["-h", "127.0.0.1", "-p", str(port), "-U", f"bench.t{n}"]

    def pgbench(tenant, *options):
        return subprocess.Popen(["pgbench", "-S", "-n", "-T", str(SECONDS), *options, *as_tenant(tenant), "acme"],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    for protocol in ("simple", "extended", "prepared"):
        for clients in (1, 8, 32):
            pgbench(0, "-M", protocol, "-c", str(clients)).wait()
    for bench in [pgbench(n, "-c", "1") for n in range(20)]:
        bench.wait()
    pgbench(0, "-C", "-c", "4").wait()
    copy = ["psql", "-q", *as_tenant(0), "-d", "acme", "-c"]
    data = subprocess.run([*copy, f"copy ({ROWS}) to stdout"], check=True, capture_output=True).stdout
    rig.sql("acme", "create table sink (row text)")
    subprocess.run([*copy, "copy public.sink from stdin"], check=True, input=data)


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    tool, counts = profdata(), os.path.join(TARGET, "counts")
    shutil.rmtree(counts, ignore_errors=True)
    print("building with counters ...", flush=True)
    binary = build(os.path.join(TARGET, "counting"), f"-Cprofile-generate={counts}")
    print("serving ...", flush=True)
    rig = Rig()
    try:
        rig.postgres()
        process, port = serve(rig, binary)
        load(rig, port)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        rig.close()
    profile = os.path.join(TARGET, "tenantry.profdata")
    subprocess.run([tool, "merge", "-o", profile, *glob.glob(f"{counts}/*.profraw")], check=True)
    print("building with the profile ...", flush=True)
    built = build(os.path.join(TARGET, "profiled"), f"-Cprofile-use={profile}")
    os.makedirs(os.path.join(TARGET, "release"), exist_ok=True)
    print("done:", os.path.relpath(shutil.copy2(built, os.path.join(TARGET, "release", "tenantry")), ROOT))


main()
