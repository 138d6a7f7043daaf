"""Subtrees of XML documents: the source gate, the path grammar, detection, survey, automatic choice, the splitter."""

from thresher.workflows.discovery.subtrees.detection import Detection
from thresher.workflows.discovery.subtrees.limits import Limits
from thresher.workflows.discovery.subtrees.path_tree import PathNode
from thresher.workflows.discovery.subtrees.paths import SubtreePath, parse_path, parse_paths
from thresher.workflows.discovery.subtrees.recognition import Recognition, recognise
from thresher.workflows.discovery.subtrees.recut import SmallerPiece, split_further
from thresher.workflows.discovery.subtrees.source import SourceDocument
from thresher.workflows.discovery.subtrees.splitter import split
from thresher.workflows.discovery.subtrees.subtree import Shells, Subtree
from thresher.workflows.discovery.subtrees.survey import Survey, survey

__all__ = [
    "Detection",
    "Limits",
    "PathNode",
    "Recognition",
    "Shells",
    "SmallerPiece",
    "SourceDocument",
    "Subtree",
    "SubtreePath",
    "Survey",
    "parse_path",
    "parse_paths",
    "recognise",
    "split",
    "split_further",
    "survey",
]
