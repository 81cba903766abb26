"""What Tenantry is held to, each as a row of the report: the target, both figures, and whether it is met.

A machine without counters cannot see instructions in the kernel: there the sum of both parts is judged by CPU time and
by system calls, and the rows say so.
"""

from dataclasses import dataclass

NOISE, NOISY = 1.05, ("cpu", "p50", "p99")  # from run to run


@dataclass
class Row:
    what: str
    target: str
    ours: float | None
    theirs: float | None = None
    ratio: float | None = None
    met: bool | None = None  # None: not measured, or there is no target


NONE = "none"  # a target that nobody has set


class Results:
    """The medians of one file."""

    def __init__(self, results):
        self.scenarios = results["scenarios"]
        # As its image has it: built with a profile, if such a build was measured.
        self.has_profile = any("tenantry-pgo" in found["contenders"] for found in self.scenarios.values())
        self.ours = "tenantry-pgo" if self.has_profile else "tenantry"

    def median(self, scenario, contender, key):
        median = self.scenarios.get(scenario, {}).get("contenders", {}).get(contender, {}).get("median", {})
        if key != "instructions":
            return median.get(key)
        parts = [median.get("user_instructions"), median.get("kernel_instructions")]
        return None if None in parts else sum(parts)

    def instructions_beside(self, scenario, most, base=None):
        """User and kernel instructions together, or what stands for them."""
        if self.median(scenario, self.ours, "kernel_instructions") is not None:
            yield self.beside("user + kernel instructions", scenario, "instructions", most, base=base)
        else:
            yield self.beside("CPU, us, for user + kernel instructions", scenario, "cpu_us", most, base=base)
            yield self.beside("syscalls, for user + kernel instructions", scenario, "syscalls", most, base=base)

    def beside(self, what, scenario, key, most, contender=None, base=None):
        """At most so many times PgBouncer's figure, or that of `base`: a scenario and a contender."""
        ours, theirs = self.median(scenario, contender or self.ours, key), self.median(*(base or (scenario, "pgbouncer")), key)
        noise = NOISE if key.startswith(NOISY) else 1
        target = f"≤ {most:g} x {self.called(base, scenario)}" + (", within 5 %" if noise > 1 else "")
        ratio = ours / theirs if ours is not None and theirs else None
        return Row(f"{scenario}: {what}", target, ours, theirs, ratio, None if ratio is None else ratio <= most * noise)

    def called(self, base, scenario):
        if base is None:
            return "PgBouncer"
        return "1 worker" if base[0] == scenario else base[0]

    def at_most(self, what, scenario, key, most, unit=""):
        ours, theirs = self.median(scenario, self.ours, key), self.median(scenario, "pgbouncer", key)
        ratio = ours / theirs if ours is not None and theirs else None
        return Row(f"{scenario}: {what}", f"≤ {most:g}{unit}", ours, theirs, ratio, None if ours is None else ours <= most)


def main_rows(results):
    """What the README shows."""
    yield from statements(results)
    yield from tenants(results)
    yield from connections(results)


def statements(results):
    for clients in (8, 32):
        yield results.beside("user instructions", f"simple, {clients}", "user_instructions", 0.95)
        if results.has_profile:
            yield results.beside("the same, built without a profile", f"simple, {clients}", "user_instructions", 0.95, "tenantry")
        yield from results.instructions_beside(f"simple, {clients}", 0.95)
    for clients in (8, 32, 128):
        yield results.at_most("syscalls", f"simple, {clients}", "syscalls", 4.2)
    for clients in (8, 32):
        yield from results.instructions_beside(f"extended, {clients}", 0.95)
    for clients in (8, 32):
        yield results.at_most("user + kernel instructions", f"prepared, {clients}", "instructions", 36_000)
    yield results.at_most("user instructions", "simple over TLS, 8", "user_instructions", 20_000)
    for protocol in ("simple", "extended"):
        for clients in (1, 32):
            for key in ("p50_ms", "p99_ms"):
                yield results.beside(key.replace("_ms", ", ms"), f"{protocol}, {clients}", key, 1)


def tenants(results):
    many, one = "20 tenants over 10 servers", "1 tenant over 10 servers"
    yield from results.instructions_beside(many, 1.15, base=(one, results.ours))
    yield results.at_most("syscalls", many, "syscalls", 4.6)
    yield results.beside("user instructions", "200 pools", "user_instructions", 1.1, base=("1 pool", results.ours))
    for key, what in (("user_instructions", "user instructions"), ("cpu_us", "CPU, us")):
        yield results.beside(what, "50000 known tenants", key, 1.1, base=("10 known tenants", results.ours))


def connections(results):
    for suffix, most in (("", 2.3), (" over TLS", 12)):
        yield results.at_most("PSS a client", f"5000 idle{suffix}", "pss_kb_per_client", most, " kB")
    for direction, most, theirs in (("out", 0.45, 0.56), ("in", 0.25, 0.41)):
        # The absolute target is of a machine on which PgBouncer took `theirs`.
        yield results.beside(f"CPU a GB ({most} s beside {theirs} s)", f"copy {direction}", "cpu_s", round(most / theirs, 2))
    for secret in ("verifier", "password"):
        for suffix in ("", " over TLS"):
            yield results.beside("CPU, us", f"login, {secret}{suffix}", "cpu_us", 1)


def every_scenario(results):
    """CPU beside PgBouncer, and with two workers beside one; and what was counted."""
    for name in results.scenarios:
        ours, theirs = (results.median(name, contender, "user_instructions") for contender in (results.ours, "pgbouncer"))
        if ours is not None and theirs is not None:
            yield Row(f"{name}: user instructions", NONE, ours, theirs, ours / theirs)
        key = "cpu_s" if name.startswith("copy") else "cpu_us"
        what = {"cpu_s": "CPU a GB, s", "cpu_us": "CPU, us"}[key]
        if results.median(name, "pgbouncer", key) is not None:
            yield results.beside(what, name, key, 1)
        if results.median(name, "tenantry-2", key) is not None:
            yield results.beside(f"{what}, 2 workers", name, key, 1, "tenantry-2", (name, "tenantry"))
