"""Formats of reports: one file each. `report.FORMATS` finds them by listing this folder."""
