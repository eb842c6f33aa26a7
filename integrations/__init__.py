"""Plug-ins for the projects where users are, one folder for each project."""
