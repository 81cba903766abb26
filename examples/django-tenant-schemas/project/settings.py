import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "shared"))  # the app `notes`, the same in every example

from environment import database, flag  # noqa: E402

SECRET_KEY = "an example keeps no secrets"
ALLOWED_HOSTS = [".example.test"]
ROOT_URLCONF = "notes.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SHARED_APPS = ["tenant_schemas", "customers", "django.contrib.contenttypes"]
TENANT_APPS = ["notes"]
INSTALLED_APPS = SHARED_APPS + TENANT_APPS
TENANT_MODEL = "customers.Customer"
TENANT_LIMIT_SET_CALLS = flag("LIMIT_SET_CALLS")

DATABASES = {"default": database("tenant_schemas.postgresql_backend")}
DATABASE_ROUTERS = ["tenant_schemas.routers.TenantSyncRouter"]
MIDDLEWARE = ["tenant_schemas.middleware.TenantMiddleware"]
