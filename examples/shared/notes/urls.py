from django.urls import path

from notes import views

urlpatterns = [
    path("read", views.read),
    path("write", views.write),
    path("fail", views.fail),
    path("stream", views.stream),
]
handler500 = views.server_error
