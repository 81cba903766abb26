"""Settings that every example takes from environment variables, so that one project runs against any server."""

import os


def flag(name):
    return os.environ.get(name, "0") == "1"


def database(engine):
    """The DATABASES entry. DISABLE_SERVER_SIDE_CURSORS stays at its default: .iterator() uses cursors."""
    age = os.environ.get("CONN_MAX_AGE", "0")
    pool = int(os.environ.get("DATABASE_POOL", "0"))
    return {
        "ENGINE": engine,
        "HOST": os.environ.get("DATABASE_HOST", "127.0.0.1"),
        "PORT": os.environ.get("DATABASE_PORT", "5432"),
        "USER": os.environ.get("DATABASE_USER", "app"),
        "PASSWORD": os.environ.get("DATABASE_PASSWORD", "app"),
        "NAME": os.environ.get("DATABASE_NAME", "app"),
        "CONN_MAX_AGE": None if age == "None" else int(age),
        "ATOMIC_REQUESTS": flag("ATOMIC_REQUESTS"),
        # psycopg's own pool, in Django since 5.1.
        "OPTIONS": {"pool": {"min_size": 1, "max_size": pool}} if pool else {},
    }
