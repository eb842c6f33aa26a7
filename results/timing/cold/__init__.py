"""Ways to make the caches of a CPU cold: which one is cheapest, and the memory that calls rotate over."""
