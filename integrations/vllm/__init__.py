"""vLLM: a general plug-in that runs kernels of moebench as its experts."""
