from django.db import models
from tenant_schemas.models import TenantMixin
from tenant_schemas.utils import tenant_context


class Customer(TenantMixin):
    """This library keeps the host name in the tenant's own row."""

    created = models.DateTimeField(auto_now_add=True)

    @classmethod
    def register(cls, name):
        cls.objects.create(schema_name=name, domain_url=f"{name}.example.test")

    def active(self):
        return tenant_context(self)
