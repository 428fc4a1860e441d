"""A checkpoint for others: in their formats, with a model card, in a registry."""
