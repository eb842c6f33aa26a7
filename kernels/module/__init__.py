"""The MoE layer that users put into their models, and the weights of Hugging Face checkpoints."""
