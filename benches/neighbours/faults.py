#!/usr/bin/env python3
"""Clients of one tenant that do the same harm again and again, as fast as they are answered.

    faults.py PORT NAME SECONDS

NAME is a key of FAULTS. Prints how often it was done.
"""

import os, socket, struct, sys, threading, time

CLIENTS = 4


def message(tag, body=b""):
    return tag + struct.pack("!i", len(body) + 4) + body


def query(sql):
    return message(b"Q", sql.encode() + b"\0")


class Client:
    def __init__(self, port, user="bench.acme", **parameters):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.settimeout(10)
        pairs = {"user": user, "database": "acme", **parameters}
        body = b"".join(f"{name}\0{value}\0".encode() for name, value in pairs.items()) + b"\0"
        self.socket.sendall(struct.pack("!ii", len(body) + 8, 3 << 16) + body)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *messages):
        self.socket.sendall(b"".join(messages))
        return self

    def until(self, wanted):
        """Reads to a message with one of these tags, or the end."""
        data = b""
        while True:
            while len(data) < 5 or len(data) < 1 + struct.unpack("!i", data[1:5])[0]:
                more = self.socket.recv(65536)
                if not more:
                    return None
                data += more
            length = 1 + struct.unpack("!i", data[1:5])[0]
            if data[:1] in wanted:
                return data[:1]
            data = data[length:]


def refused(user="bench.acme", **parameters):
    def fault(port):
        with Client(port, user, **parameters) as client:
            client.until(b"EZ")
    return fault


def runs(*statements):
    """Runs them, and leaves."""
    def fault(port):
        with Client(port) as client:
            client.until(b"Z")
            for statement in statements:
                client.send(query(statement)).until(b"Z")
    return fault


def leaves(*messages, behind=b"C"):
    """Sends that, and leaves when it has read so far."""
    def fault(port):
        with Client(port) as client:
            client.until(b"Z")
            client.send(*messages)
            if behind:
                client.until(behind)
    return fault


PIPELINE = (message(b"P", b"\0select 1\0\0\0"), message(b"B", b"\0\0\0\0\0\0\0\0"), message(b"E", b"\0\0\0\0\0"), message(b"H"))
FAULTS = {
    "nothing but to come and go": runs("select 1"),
    "a role that is not there": refused("bench.bad"),
    "a schema that is not there": refused("bench.worse"),
    "a setting that is refused": refused(options="-c nosuch=1"),
    "a tenant that is unknown": refused("bench.nobody"),
    "setseed": runs("select setseed(0.5)"),
    "a backend ends itself": runs("select pg_terminate_backend(pg_backend_pid())"),
    "leaves in a pipeline": leaves(*PIPELINE),
    "leaves in a COPY": leaves(query("copy t from stdin"), behind=b"G"),
    "leaves in a statement": leaves(query("select pg_sleep(0.02)"), behind=b""),
    "leaves in a transaction": runs("begin", "insert into t values (1)"),
    "breaks the protocol": leaves(query("begin"), message(b"!"), behind=b"E"),
    "leaves time-outs": runs("set idle_session_timeout = 1", "set statement_timeout = 1"),
    "leaves a temporary table": runs("create temp table x (a int)"),
    "leaves a lock": runs("select pg_advisory_lock(1)"),
    "errors": runs("select 1/0"),
}


def main():
    port, name, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    # What is measured is what it does to others by the pooler, not by its own use of the processor.
    os.nice(19)
    end, done = time.monotonic() + seconds, [0] * CLIENTS

    def work(at):
        while time.monotonic() < end:
            try:
                FAULTS[name](port)
            except OSError:
                pass
            done[at] += 1

    threads = [threading.Thread(target=work, args=(at,), daemon=True) for at in range(CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    print(sum(done))


if __name__ == "__main__":
    main()
