"""Pictures of any size and channel count, with classes or without: `ImageDiffusion` and what feeds and judges it."""
