"""Commands of the command line, one in each file; ``nas.cli`` lists them. Nothing heavy is imported before one runs."""
