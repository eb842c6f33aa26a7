"""Expert parallelism: which rows each rank sends, how they travel, and the bytes that this takes."""
