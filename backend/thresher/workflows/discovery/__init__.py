"""XML discovery: facts from every subtree of a document."""
