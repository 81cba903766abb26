"""What the Python programs share: the runner's environment, the tenants' URLs, and TAP."""

import asyncio
import inspect
import os
import pathlib
import re
import signal
import socket
import threading
import time
import traceback

HOST = os.environ["TENANTRY_HOST"]
PORT = int(os.environ["TENANTRY_PORT"])
USER = os.environ["TENANTRY_USER"]
PASSWORD = os.environ["TENANTRY_PASSWORD"]
DATABASE = os.environ["TENANTRY_DATABASE"]
CA = os.environ["TENANTRY_CA"]
SNI_HOST = "acme.db.localhost"

CHECKS = re.findall(r"^\d+\. \*\*(.+?)\*\*", pathlib.Path(__file__).with_name("CHECKLIST.md").read_text(), re.M)


# Answers a row once a session is at it: a cancel that comes before its statement cancels nothing.
ASLEEP = "select 'asleep' from pg_stat_activity where state = 'active' and query = 'select pg_sleep(10)'"


class Skip(Exception):
    """The driver cannot do this on any server."""


def url(tenant="acme", way="user", scheme="postgresql"):
    user, database, query = USER, DATABASE, ""
    match way:
        case "user":
            user = f"{USER}.{tenant}"
        case "options":
            query = f"?options=-c%20app.tenant%3D{tenant}"
        case "database":
            database = tenant
        case "database-at":
            database = f"{DATABASE}%40{tenant}"
    return f"{scheme}://{user}:{PASSWORD}@{HOST}:{PORT}/{database}{query}"


def overlap(i):
    """Who (0 or 1) is in a transaction in round i, and whether it asks once more after it: servers change hands in every order."""
    return i % 2, i % 3 == 0


def poll(condition):
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)  # between two looks


def together(acts):
    """Runs them all at once, each in a thread. The first error, if there is one, is raised once all have ended."""
    errors = []

    def run(act):
        try:
            act()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def resolve_names():
    """Every name leads to the server, for drivers that cannot be told a host's name and its address apart."""
    original = socket.getaddrinfo
    socket.getaddrinfo = lambda _host, *args, **options: original(HOST, *args, **options)


def late(_signal, _frame):
    raise TimeoutError("no answer in 15 s")


def run(functions):
    """Runs the function of each check, in the checklist's order; asynchronous ones in a loop of their own."""
    signal.signal(signal.SIGALRM, late)
    failed = False
    print(f"TAP version 13\n1..{len(CHECKS)}")
    for number, name in enumerate(CHECKS, 1):
        check = functions[name.replace("-", "_")]
        skip = problem = None
        signal.alarm(15)
        try:
            if os.environ.get("TENANTRY_DIRECT") == "1" and name.startswith("connect-"):
                raise Skip("bare PostgreSQL knows no tenants")
            asyncio.run(check()) if inspect.iscoroutinefunction(check) else check()
        except Skip as reason:
            skip = reason
        except BaseException as error:  # also a KeyboardInterrupt is a failed check, not the end of the others
            failed = True
            line = traceback.extract_tb(error.__traceback__)
            here = [frame.lineno for frame in line if not frame.filename.endswith("tap.py") and "/drivers/" in frame.filename]
            problem = f"{type(error).__name__}: {error} (line {here[-1] if here else '?'})"
        finally:
            signal.alarm(0)
        if problem:
            print(f"not ok {number} - {name}: " + " ".join(problem.split()), flush=True)
        else:
            print(f"ok {number} - {name}" + (f" # SKIP {skip}" if skip else ""), flush=True)
    raise SystemExit(failed)
