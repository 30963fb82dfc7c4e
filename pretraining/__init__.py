"""Makes the weights that the project ships, from procedural pictures: a small feature network, a small image prior."""
