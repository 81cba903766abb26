import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "shared"))  # the app `notes`, the same in every example

from environment import database, flag  # noqa: E402

SECRET_KEY = "an example keeps no secrets"
ALLOWED_HOSTS = [".example.test"]
ROOT_URLCONF = "notes.urls"
USE_TZ = True
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"  # the library's checks import it
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TENANTS = {
    "public": {"APPS": ["django_pgschemas", "customers", "django.contrib.contenttypes"]},
    "default": {
        "TENANT_MODEL": "customers.Customer",
        "DOMAIN_MODEL": "customers.Domain",
        "APPS": ["notes"],
        "URLCONF": ROOT_URLCONF,
    },
}
INSTALLED_APPS = TENANTS["public"]["APPS"] + TENANTS["default"]["APPS"]
PGSCHEMAS_LIMIT_SET_CALLS = flag("LIMIT_SET_CALLS")

DATABASES = {"default": database("django_pgschemas.postgresql")}
DATABASE_ROUTERS = ["django_pgschemas.routers.TenantAppsRouter"]
MIDDLEWARE = ["django_pgschemas.routing.middleware.DomainRoutingMiddleware"]
