"""Answers hold the rows they are made of: {"rows": [{"tenant": ...}, ...]}. All must be of the Host header's tenant."""

import sys

from django.apps import apps
from django.db import IntegrityError, transaction
from django.http import JsonResponse

from notes.models import Note, Tag


class Undo(Exception):
    pass


def host_tenant(request):
    """Whose request it is, by the Host header alone: the library's own idea of it is what is being checked."""
    return request.get_host().partition(".")[0]


def answer(rows):
    return JsonResponse({"rows": [{"tenant": row.tenant, "id": row.pk} for row in rows]})


def read(request):
    """Several of the tenant's tables, and one that all tenants share in schema public."""
    customer = apps.get_model("customers", "Customer").objects.get(schema_name=host_tenant(request))
    customer.tenant = customer.schema_name
    tags = list(Tag.objects.select_related("note"))
    return answer([customer, *Note.objects.all(), *tags, *(tag.note for tag in tags)])


def write(request):
    """A look first; then a note and its tag are kept, and a note between them is undone with its savepoint."""
    tenant = host_tenant(request)
    first = Note.objects.earliest("pk")
    with transaction.atomic():
        note = Note.objects.create(tenant=tenant, body="written")
        try:
            with transaction.atomic():
                Note.objects.create(tenant=tenant, body="undone")
                raise Undo
        except Undo:
            pass
        with transaction.atomic():
            tag = Tag.objects.create(tenant=tenant, name="written", note=note)
    return answer([first, Note.objects.get(pk=note.pk), Tag.objects.get(pk=tag.pk)])


def fail(request):
    """An error of the database undoes a transaction; the connection is good again after it."""
    tenant = host_tenant(request)
    taken = Note.objects.earliest("pk").pk
    try:
        with transaction.atomic():
            Note.objects.create(tenant=tenant, body="undone")
            Note.objects.create(pk=taken, tenant=tenant, body="undone")
    except IntegrityError:
        return answer(Note.objects.all())
    raise AssertionError("a primary key was given twice")


def stream(request):
    """A server-side cursor that is fetched from in pieces, with other statements between them."""
    rows = []
    for note in Note.objects.iterator(chunk_size=5):
        rows += [note, *note.tag_set.all()]
    return answer(rows)


def server_error(request):
    """Says what went wrong: whoever runs an example wants to know."""
    kind, error, _ = sys.exc_info()
    summary = str(error).partition("\n")[0]
    return JsonResponse({"error": f"{kind.__name__}: {summary}"}, status=500)
