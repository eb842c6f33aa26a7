"""The only path from an implementation to a number: build, check, measure, check again."""
