"""XML discovery: facts from every subtree of a document."""

from thresher.workflows.discovery.batch_reader import BatchLimits
from thresher.workflows.discovery.configurations import NodeConfiguration, load_configurations
from thresher.workflows.discovery.discovery_workflow import DiscoveryRequest, DiscoveryWorkflow
from thresher.workflows.discovery.node_facts import FactValue, NodeFact
from thresher.workflows.discovery.node_reader import AnswerBounds, Node, NodeReader
from thresher.workflows.discovery.parallel_processor import (
    NodeProcessingResult,
    process_nodes_parallel,
    process_single_node,
)
from thresher.workflows.discovery.subtrees import Limits, SourceDocument, Subtree, parse_paths, split, survey

__all__ = [
    "AnswerBounds",
    "BatchLimits",
    "DiscoveryRequest",
    "DiscoveryWorkflow",
    "FactValue",
    "Limits",
    "Node",
    "NodeConfiguration",
    "NodeFact",
    "NodeProcessingResult",
    "NodeReader",
    "SourceDocument",
    "Subtree",
    "load_configurations",
    "parse_paths",
    "process_nodes_parallel",
    "process_single_node",
    "split",
    "survey",
]
