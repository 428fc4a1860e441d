"""From the corpus to a checkpoint: compose base text, make a vocabulary, train, export, write the card."""
