"""Categories as points in space: learned embeddings, noised and denoised as Gaussians."""
