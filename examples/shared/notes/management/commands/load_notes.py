from django.apps import apps
from django.core.management.base import BaseCommand

from notes.models import Note, Tag


class Command(BaseCommand):
    help = "Gives every tenant notes, each with a tag"

    def add_arguments(self, parser):
        parser.add_argument("--notes", type=int, default=20)

    def handle(self, notes, **options):
        for customer in apps.get_model("customers", "Customer").objects.all():
            with customer.active():
                self.load(customer.schema_name, notes)

    def load(self, tenant, notes):
        for _ in range(notes):
            note = Note.objects.create(tenant=tenant, body="loaded")
            Tag.objects.create(tenant=tenant, name="loaded", note=note)
