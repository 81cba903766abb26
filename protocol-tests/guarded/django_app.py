#!/usr/bin/env python3
"""A plain Django application of one tenant: migrations, the ORM, transactions, a test database's serialisation.

    django_app.py PORT USER PASSWORD DATABASE

Says `passed` when everything it did is in the tenant's schema and nothing was refused.
"""

import sys

import django
from django.conf import settings

PORT, USER, PASSWORD, DATABASE = sys.argv[1:]
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": PORT,
            "USER": USER,
            "PASSWORD": PASSWORD,
            "NAME": DATABASE,
            "CONN_MAX_AGE": None,
            "OPTIONS": {"isolation_level": 2},
        }
    },
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sessions",
    ],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    TIME_ZONE="Europe/Berlin",
)
django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.db.models import Count  # noqa: E402

call_command("migrate", verbosity=0)
call_command("migrate", "auth", "0011", verbosity=0)
call_command("migrate", verbosity=0)
call_command("check", databases=["default"])
group = Group.objects.create(name="editors")
for number in range(20):
    with transaction.atomic():
        user = User.objects.create_user(f"user{number}", password=None)
        user.groups.add(group)
try:
    with transaction.atomic():
        User.objects.filter(username="user0").delete()
        raise KeyError("taken back")
except KeyError:
    pass
with connection.cursor() as cursor:
    cursor.execute("SET LOCAL statement_timeout = '5s'")
    cursor.execute("SHOW search_path")
    (path,) = cursor.fetchone()
    cursor.execute("select count(*) from pg_tables where schemaname = current_schema()")
    (tables,) = cursor.fetchone()
assert Group.objects.annotate(n=Count("user")).get().n == 20
assert len(list(User.objects.order_by("id").iterator(chunk_size=7))) == 20
assert sorted(connection.introspection.table_names())[0].startswith("auth_")
call_command("sqlflush", verbosity=0, stdout=open("/dev/null", "w"))
call_command("flush", interactive=False, verbosity=0)
assert not User.objects.exists() and tables >= 9, tables
print(f"passed with {tables} tables in {path}")
