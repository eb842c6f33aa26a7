"""FlashInfer-Trace: MoE layers, their workloads and records as a dataset of its schema, and its workloads as traces."""
