"""Searching the configurations of a kernel for the fastest one."""
