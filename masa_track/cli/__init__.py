"""The `masa-track` command, one module a subcommand."""
