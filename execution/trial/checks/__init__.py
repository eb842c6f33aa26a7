"""Checks of what implementations do beside computing: writing to inputs, keeping results, finishing late."""
