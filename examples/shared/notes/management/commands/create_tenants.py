from django.apps import apps
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Registers tenants, each under the host name NAME.example.test"

    def add_arguments(self, parser):
        parser.add_argument("names", nargs="+")

    def handle(self, names, **options):
        for name in names:
            apps.get_model("customers", "Customer").register(name)
