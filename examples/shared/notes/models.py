"""A tenant's tables. `tenant` is written when a row is made and never read by a query: it proves whose row it is."""

from django.db import models


class Note(models.Model):
    tenant = models.CharField(max_length=63)
    body = models.TextField()


class Tag(models.Model):
    tenant = models.CharField(max_length=63)
    name = models.CharField(max_length=63)
    note = models.ForeignKey(Note, on_delete=models.CASCADE)
