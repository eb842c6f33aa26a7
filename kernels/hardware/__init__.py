"""Facts about GPUs: data sheets, limits of a processor, occupancy, device names."""
