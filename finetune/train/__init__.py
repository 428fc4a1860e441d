"""Training: a plan, a trainer, and a run that survives being killed."""
