"""The database: sessions, tables, repositories."""
