from django.db import models
from django_tenants.models import DomainMixin, TenantMixin
from django_tenants.utils import tenant_context


class Customer(TenantMixin):
    created = models.DateTimeField(auto_now_add=True)

    @classmethod
    def register(cls, name):
        customer = cls.objects.create(schema_name=name)
        Domain.objects.create(domain=f"{name}.example.test", tenant=customer, is_primary=True)

    def active(self):
        return tenant_context(self)


class Domain(DomainMixin):
    pass
