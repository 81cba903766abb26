"""What a run costs the pooler: CPU, instructions by the machine's counters, context switches, memory.

All by /proc and `perf stat` from outside; nothing here slows the pooler down.
"""

import contextlib, functools, glob, os, re, shutil, signal, subprocess, time

import loadgen
from rig import cpu_seconds

INSTRUCTIONS = {"instructions:u": "user_instructions", "instructions:k": "kernel_instructions"}
SETTLE_SECONDS = 0.5


@functools.cache
def countable(event):
    """Whether this machine, and this user, can count it."""
    if not shutil.which("perf"):
        return False
    run = subprocess.run(["perf", "stat", "-x,", "-e", event, "--", "true"], capture_output=True, text=True)
    return re.search(r"^\d+,", run.stderr, re.M) is not None


@contextlib.contextmanager
def counted(pid, events):
    """Counts events of a process while the block runs; what it gives is filled in at the end."""
    (hear, tell), (answer, said), counts = os.pipe(), os.pipe(), {}
    # -D -1 and the pipes: it counts from the answer on, not from whenever it has attached itself.
    perf = subprocess.Popen(["perf", "stat", "-x,", "-D", "-1", "--control", f"fd:{hear},{said}", "-e", ",".join(events),
                             "-p", str(pid)], pass_fds=(hear, said), stderr=subprocess.PIPE, text=True, start_new_session=True)
    os.close(hear)
    os.close(said)
    try:
        os.write(tell, b"enable\n")
        if not os.read(answer, 16):
            raise RuntimeError(f"perf cannot count {', '.join(events)} of process {pid}")
        yield counts
    finally:
        perf.send_signal(signal.SIGINT)
        output = perf.communicate()[1]
        os.close(tell)
        os.close(answer)
    counts |= {event: int(count) for count, event in re.findall(r"^(\d+),[^,]*,([^,]+),", output, re.M)}


def spent(pid):
    """Since the process began: CPU seconds, clock ticks in user mode and in the kernel, context switches."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    switches = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path) as f:
            switches += sum(map(int, re.findall(r"voluntary_ctxt_switches:\s+(\d+)", f.read())))
    return cpu_seconds(pid), int(fields[11]), int(fields[12]), switches


def memory_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        text = f.read()
    return {name: int(re.search(rf"^{name}:\s+(\d+)", text, re.M).group(1)) for name in ("Rss", "Pss")}


def percentile(values, part):
    return values[min(len(values) - 1, int(len(values) * part))]


def run(rig, contender, scenario, limit):
    """One run of a scenario's load: figures a unit. The clients' logins are in it: they are a thousandth."""
    if contender.pid is None:
        return of_work(scenario.load.run(rig, contender, limit), scenario.unit)
    events = [event for event in INSTRUCTIONS if countable(event)]
    before = spent(contender.pid)
    with counted(contender.pid, events) if events else contextlib.nullcontext({}) as counts:
        work = scenario.load.run(rig, contender, limit)
    cpu, user, system, switches = (now - then for now, then in zip(spent(contender.pid), before))
    figures = of_work(work, scenario.unit)
    # The kernel samples the split by its clock, and knows the sum exactly.
    user_part = user / (user + system) if user + system else 0
    for name, seconds in (("cpu", cpu), ("cpu_user", cpu * user_part), ("cpu_system", cpu * (1 - user_part))):
        figures |= {f"{name}_s": seconds / work.count} if scenario.unit == "gigabyte" else {f"{name}_us": seconds * 1e6 / work.count}
    figures |= {INSTRUCTIONS[event]: count / work.count for event, count in counts.items()}
    memory = memory_kb(contender.pid)
    return figures | {"context_switches": switches / work.count, "rss_mb": memory["Rss"] / 1024, "pss_mb": memory["Pss"] / 1024}


def of_work(work, unit):
    figures = {"mb_per_s": work.per_second * 1000} if unit == "gigabyte" else {"per_second": work.per_second}
    if work.latencies_us:
        values = sorted(work.latencies_us)
        figures |= {"p50_ms": percentile(values, 0.5) / 1000, "p99_ms": percentile(values, 0.99) / 1000}
    return figures


def idle(contender, count, tls):
    """Memory an idle client: the growth between a tenth and all of `count` clients that have logged in."""
    context, clients, at = loadgen.tls_context() if tls else None, [], []
    try:
        for goal in (count // 10, count):
            while len(clients) < goal:
                clients.append(loadgen.login(contender.host, contender.port, contender.startup(), context))
            time.sleep(SETTLE_SECONDS)
            at.append(memory_kb(contender.pid))
    finally:
        loadgen.log_out(clients)
    low, high = at
    grown = {f"{name.lower()}_kb_per_client": (high[name] - low[name]) / (count - count // 10) for name in high}
    return grown | {"rss_mb": high["Rss"] / 1024, "pss_mb": high["Pss"] / 1024}
