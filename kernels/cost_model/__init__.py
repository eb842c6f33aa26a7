"""Static cost models: the time of a layer predicted from its operations, without running it."""
