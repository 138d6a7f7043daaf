"""All queries: nothing outside this folder speaks SQL about a table."""
