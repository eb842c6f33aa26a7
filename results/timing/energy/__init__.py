"""Energy of calls, from the counters of a GPU and of a CPU's packages."""
