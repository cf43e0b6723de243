"""Endpoints of the server, one module a view."""
