"""The service `prices`: answers by itself."""

from serving import Service

Service(lambda headers: "prices").serve()
