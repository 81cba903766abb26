from django.db import models
from django_pgschemas.models import TenantModel
from django_pgschemas.routing.models import DomainModel


class Customer(TenantModel):
    created = models.DateTimeField(auto_now_add=True)

    auto_create_schema = False  # migrate makes the schemas and the tables of all tenants

    @classmethod
    def register(cls, name):
        customer = cls.objects.create(schema_name=name)
        Domain.objects.create(domain=f"{name}.example.test", tenant=customer)

    def active(self):
        return self


class Domain(DomainModel):
    pass
