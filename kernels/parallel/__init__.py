"""Expert parallelism: which rows go where, how they travel, and what that took."""
