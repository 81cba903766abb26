"""Figures that need a run of their own, since counting them slows the pooler down.

System calls: by perf's tracepoints, which cost the least, else by strace. Instructions in user mode, where the
machine has no counters: by callgrind.
"""

import glob, os, re, signal, subprocess, tempfile

from loads import Limit
from measure import counted, countable

TOTAL = "raw_syscalls:sys_enter"
CALLS = """read write readv writev recvfrom recvmsg recvmmsg sendto sendmsg sendmmsg splice epoll_wait epoll_pwait
epoll_pwait2 epoll_ctl poll ppoll accept4 connect socket close shutdown setsockopt getsockopt futex sched_yield
io_uring_enter clock_gettime getrandom mmap munmap madvise brk""".split()
SELDOM = 0.005  # a unit; calls that are made less often are not listed
DUMP_SECONDS_MAX = 60


def system_calls(rig, contender, scenario, limit):
    """System calls a unit, in sum and by call."""
    if countable(TOTAL):
        # A call that this kernel does not know has no tracepoint, and perf would refuse all of them.
        known = [call for call in CALLS if countable(f"syscalls:sys_enter_{call}")]
        with counted(contender.pid, [TOTAL, *(f"syscalls:sys_enter_{call}" for call in known)]) as counts:
            count = scenario.load.run(rig, contender, limit).count
        by_call = {call: counts.get(f"syscalls:sys_enter_{call}", 0) for call in known}
        total = counts[TOTAL]
    else:
        by_call, count = traced(rig, contender, scenario, limit)
        total = sum(by_call.values())
    often = {call: number / count for call, number in by_call.items() if number / count >= SELDOM}
    return {"syscalls": total / count}, dict(sorted(often.items(), key=lambda pair: -pair[1]))


def traced(rig, contender, scenario, limit):
    """strace's own count: it slows the pooler down so much that each wake finds more to do than otherwise."""
    table = os.path.join(rig.dir, "strace")
    strace = subprocess.Popen(["strace", "-c", "-f", "-U", "name,calls", "-o", table, "-p", str(contender.pid)],
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        strace.stderr.readline()  # It says when it has attached itself.
        count = scenario.load.run(rig, contender, limit).count
    finally:
        strace.send_signal(signal.SIGINT)
        strace.communicate()
    with open(table) as f:
        calls = re.findall(r"^(\w+)\s+(\d+)\s*$", f.read(), re.M)
    return {call: int(number) for call, number in calls if call != "total"}, count


def user_instructions(rig, start, scenario):
    """Instructions in user mode a unit: a short and a long run under callgrind, and the difference between them.

    The difference leaves out what happens once a run. None if there is nobody to start.
    """
    directory = tempfile.mkdtemp(dir=rig.dir)
    os.chmod(directory, 0o777)  # PgBouncer is another user.
    wrapper = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out", f"--vgdb-prefix={directory}/vgdb"]
    contender = start(rig, scenario.setup, wrapper)
    if contender is None or contender.process is None:
        return None
    try:
        few, many = scenario.callgrind
        scenario.load.run(rig, contender, Limit(count=few))  # Logs the servers in.
        dumped(directory, contender.pid)
        (short, low), (long, high) = ((scenario.load.run(rig, contender, Limit(count=count)).count, dumped(directory, contender.pid))
                                      for count in (few, many))
        return (high - low) / (long - short)
    finally:
        rig.stop(contender.process)


def dumped(directory, pid):
    """Instructions since the last dump."""
    # Only a process's own user can wake it for a dump.
    subprocess.run(["vgdb", f"--vgdb-prefix={directory}/vgdb", f"--pid={pid}", "dump"], check=True, timeout=DUMP_SECONDS_MAX,
                   user=os.stat(f"/proc/{pid}").st_uid, stdin=subprocess.DEVNULL, capture_output=True)
    newest = max(glob.glob(f"{directory}/out.*"), key=lambda path: int(path.rpartition(".")[2]))
    with open(newest) as f:
        return int(re.search(r"^totals: (\d+)", f.read(), re.M).group(1))
