"""Text: diffusion of tokens and of their embeddings."""
