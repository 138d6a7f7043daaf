"""The one composition root: settings become a database, a model client, an engine and workflows."""
