"""Real text as a load: a novel, a tokenizer that needs no download, and experts by hashing the ids of its tokens."""
