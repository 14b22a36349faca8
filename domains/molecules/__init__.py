"""Molecules: graphs, sequences and positions of atoms, in and out of RDKit."""
