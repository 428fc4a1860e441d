"""What a checkpoint is worth: perplexity, diversity, and what it copies."""
