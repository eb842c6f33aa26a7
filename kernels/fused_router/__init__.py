"""Top-k routers in one launch: scores, biases, groups, choices and gate weights."""
