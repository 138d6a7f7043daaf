"""What is sent and what is answered, one noun per file."""
