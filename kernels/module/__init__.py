"""The MoE layer that users put into their models, and the reader of Hugging Face experts modules."""
