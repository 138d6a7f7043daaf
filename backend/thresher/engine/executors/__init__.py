"""Ways of handing items to workers."""
