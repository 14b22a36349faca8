"""Certification: every method on problems whose solution is known, as tables of errors."""
