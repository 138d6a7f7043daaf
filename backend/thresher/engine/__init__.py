"""Everything that is the same for all workflows: runs, items, attempts, retries, executors, progress."""
