"""Tables of what is not a suite's records: verdicts, histories and predictions."""
