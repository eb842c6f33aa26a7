"""The `moebench` command: one thin module per verb, heavy imports inside the verb."""
