"""What is known of GPUs: data sheets, limits of a processor, occupancy, device names."""
