"""From a kernel to a number: the trial, and the worker processes that it runs in."""
