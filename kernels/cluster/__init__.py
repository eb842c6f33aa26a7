"""Expert parallelism on clusters that are not there: what every rank sends, and how long it should take."""
