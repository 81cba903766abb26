"""A run's results as JSON under `benches/results/`: what was measured, on what, and every round.

No path and no name of the machine goes in.
"""

import datetime, glob, json, os, platform, re, statistics, subprocess

import measure
from rig import PGBOUNCER, ROOT, tenantry_binary

DIRECTORY = os.path.join(ROOT, "benches", "results")


def output(*command):
    run = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else None


def version(*command):
    """The first number with a dot in what a program says of itself."""
    found = re.search(r"\d+\.[\d.]*\d", output(*command, "--version") or "")
    return found and found.group()


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"^model name\s*:\s*(.+)$", f.read(), re.M)
    return {"cpu": model.group(1) if model else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
            "user_instructions": "counters" if measure.countable("instructions:u") else "callgrind",
            "syscalls": "perf" if measure.countable("raw_syscalls:sys_enter") else "strace"}


def heading(rig, args):
    """What a reader must know to judge the figures."""
    return {
        "date": datetime.date.today().isoformat(),
        "set": args.set,
        "commit": output("git", "rev-parse", "--short", "HEAD"),
        "dirty": bool(output("git", "status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock")),
        "machine": machine(),
        "versions": {"tenantry": version(tenantry_binary()), "before": args.before and version(args.before),
                     "pgbouncer": version(PGBOUNCER), "postgresql": version(os.path.join(rig.bin, "postgres")),
                     "pgbench": version("pgbench"), "valgrind": version("valgrind")},
        "options": {"rounds": args.rounds, "seconds": args.seconds, "only": args.only, "targets": len(args.target)},
    }


def medians(rounds):
    keys = dict.fromkeys(key for figures in rounds for key in figures)
    return {key: statistics.median(figures[key] for figures in rounds if key in figures) for key in keys}


def rounded(value):
    """Four digits are more than any of it is worth."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def write(results):
    os.makedirs(DIRECTORY, exist_ok=True)
    path = os.path.join(DIRECTORY, f"{results['date']}-{results['set']}.json")
    with open(path, "w") as f:
        json.dump(rounded(results), f, indent=1)
        f.write("\n")
    return path


def newest():
    """The newest results of the full set, or else of the short one."""
    for name in ("full", "short"):
        paths = sorted(glob.glob(os.path.join(DIRECTORY, f"????-??-??-{name}.json")))
        if paths:
            return paths[-1]
    return None
