"""The HTTP interface: routes turn requests into calls of ``operations`` and what they return into JSON."""
