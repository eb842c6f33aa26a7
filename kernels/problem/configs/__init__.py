"""Files of models: the layer and the router that a Hugging Face ``config.json`` describes."""
