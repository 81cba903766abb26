"""A throw-away PostgreSQL, and other servers that end with the program that started them."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time

PASSWORD = "secret"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, process, log):
    """Until something listens there."""
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)  # between two looks
    sys.exit(f"did not start:\n{log.read_text()}")


@contextlib.contextmanager
def running(command, port, log, **options):
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, **options)
    try:
        wait_for(port, process, log)
        yield process
    finally:
        process.send_signal(signal.SIGINT)  # PostgreSQL: fast; the pooler: now
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def postgres(bindir, directory, tls, more=""):
    """A throw-away PostgreSQL; `tls` is a certificate and its key, or None; `more` are lines of postgresql.conf."""
    # PostgreSQL refuses to run as root.
    owner = {}
    if os.getuid() == 0:
        user = pwd.getpwnam("nobody")
        owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(directory, user.pw_uid, user.pw_gid)
    data, port = directory / "data", free_port()
    initdb = [bindir / "initdb", "-D", data, "-A", "scram-sha-256", "-U", "postgres", "-N", "-E", "UTF8", "--locale=C"]
    password = directory / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    subprocess.run([*initdb, f"--pwfile={password}"], check=True, stdout=subprocess.DEVNULL, cwd="/", **owner)
    settings = f"""
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
fsync = off
autovacuum = off
{more}"""
    if tls:
        for name, source in zip(("server.crt", "server.key"), tls):
            shutil.copy(source, data / name)
            (data / name).chmod(0o600)
            if owner:
                os.chown(data / name, owner["user"], owner["group"])
        settings += "ssl = on\n"
    with (data / "postgresql.conf").open("a") as file:
        file.write(settings)
    with running([bindir / "postgres", "-D", data], port, directory.parent / "postgres.log", cwd="/", **owner):
        yield port


def sql(port, database, script):
    """As the superuser. A server that listens may still be starting (exit status 2): then once more."""
    command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", database]
    environment = os.environ | {"PGPASSWORD": PASSWORD}
    for _ in range(100):
        result = subprocess.run(command, input=script, text=True, capture_output=True, env=environment)
        if result.returncode != 2:
            break
        time.sleep(0.1)  # between two looks
    if result.returncode:
        sys.exit(result.stderr)
