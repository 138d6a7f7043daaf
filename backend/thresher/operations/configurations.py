"""Node configurations of a workspace as a file: read into the database, and written out of it."""

from __future__ import annotations

from thresher.bootstrap import Service
from thresher.persistence.repositories.node_configurations import upsert_node_configurations
from thresher.workflows.discovery import configuration_files
from thresher.workflows.discovery.stored_configurations import stored_nodes, to_stored


def import_file(service: Service, workspace: str, text: str, *, replace_all: bool) -> int:
    """Stores the configurations of a YAML file, all or none of them; returns how many.

    One for the same message, version, sender and path is replaced; ``replace_all``: whatever else there is is gone.

    Raises:
        BadConfiguration: the file cannot be used; says line and key.
    """
    nodes = configuration_files.parse(text, "file")
    upsert_node_configurations(service.db, [to_stored(node) for node in nodes], workspace, replace_all=replace_all)
    return len(nodes)


def export_file(service: Service, workspace: str) -> str:
    """All configurations of a workspace as a YAML file, which can be imported and given to ``--config``."""
    return configuration_files.dump(stored_nodes(service.db, workspace))
