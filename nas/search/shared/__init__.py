"""One study, several searchers: its trials and records in a PostgreSQL database, who evaluates what, and who died."""
