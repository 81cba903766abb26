"""Clients in one process, for what pgbench cannot do: every client another tenant, or another database.

As cheap as Python can be: the question's bytes are made once, and an answer is over when it ends with
ReadyForQuery. Also logs clients in that then do nothing.
"""

import collections, contextlib, select, socket, ssl, struct, time

READY = b"Z\0\0\0\x05I"  # ReadyForQuery, idle
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
TERMINATE = b"X\0\0\0\x04"
ANSWER_MAX = 65536
POLL_SECONDS = 0.001


def query(sql):
    text = sql.encode() + b"\0"
    return b"Q" + struct.pack("!i", len(text) + 4) + text


def tls_context():
    """The certificate is self-signed: it is not checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def login(host, port, parameters, tls=None):
    """A socket that has logged in without a password. `tls`: a context of `tls_context`."""
    client = socket.create_connection((host, port), 30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        client.sendall(SSL_REQUEST)
        if client.recv(1) != b"S":
            raise RuntimeError("no TLS there")
        client = tls.wrap_socket(client)
    body = struct.pack("!i", 196608) + b"".join(part.encode() + b"\0" for pair in parameters.items() for part in pair) + b"\0"
    client.sendall(struct.pack("!i", len(body) + 4) + body)
    answer = b""
    while not answer.endswith(READY):
        part = client.recv(ANSWER_MAX)
        if not part or part.startswith(b"E"):
            raise RuntimeError(f"no login: {(part or answer).replace(bytes(1), b' ')!r}")
        answer += part
    return client


def generate(clients, question, limit, rate=None):
    """Every client asks anew as soon as it is answered; with `rate`, so many ask a second, in turn.

    Ends at `limit`, and when all are answered. Gives the latencies in microseconds and the seconds it took.
    """
    poll, by_fd = select.epoll(), {client.fileno(): client for client in clients}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    free, asked_at, tails = collections.deque(by_fd), {}, dict.fromkeys(by_fd, b"")
    latencies, asked = [], 0
    begun = now = time.perf_counter()
    over = begun + limit.seconds if limit.seconds else float("inf")
    while asked_at or (now < over and asked < (limit.count or float("inf"))):
        due = (now - begun) * rate if rate else float("inf")
        while free and asked < min(due, limit.count or due) and now < over:
            fd = free.popleft()
            by_fd[fd].send(question)
            asked_at[fd] = time.perf_counter()
            asked += 1
        for fd, _ in poll.poll(POLL_SECONDS):
            part = by_fd[fd].recv(ANSWER_MAX)
            if not part or part.startswith(b"E"):
                raise RuntimeError(f"no answer: {part.replace(bytes(1), b' ')!r}")
            tails[fd] = (tails[fd] + part)[-len(READY):]
            if tails[fd] == READY:
                tails[fd] = b""
                latencies.append((time.perf_counter() - asked_at.pop(fd)) * 1e6)
                free.append(fd)
        now = time.perf_counter()
    poll.close()
    return latencies, now - begun


def log_out(clients):
    for client in clients:
        with contextlib.suppress(OSError):  # It may be gone already.
            client.sendall(TERMINATE)
        client.close()
