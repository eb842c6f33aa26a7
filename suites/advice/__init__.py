"""Advice: which dispatch to use for a mix of traffic, by records, tuned tables or the static model."""
