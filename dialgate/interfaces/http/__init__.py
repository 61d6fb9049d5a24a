"""The HTTP interface: endpoints, access, bodies, errors, TLS and the OpenAPI description."""
