"""The REST API: one module a resource, one table of endpoints, and what turns it into a server and a document."""
