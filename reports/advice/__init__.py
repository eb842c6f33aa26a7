"""Advice for people: its sentences, and the page that shows it."""
