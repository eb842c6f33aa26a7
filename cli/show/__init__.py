"""Verbs that show and export what is known or was recorded."""
