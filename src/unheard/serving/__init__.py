"""The local page: a server with a REST interface, and one static page that uses it."""
