"""One file per page: what it asks the APIs, and which template shows it."""
