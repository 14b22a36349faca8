"""Certification: every method on problems whose solution is known, as tables of errors."""

from .likelihoods import likelihood_table
from .posterior import posterior_table
from .report import certify
from .samplers import CLAIMS, Claim, order_table, quality_table

__all__ = ["CLAIMS", "Claim", "certify", "likelihood_table", "order_table", "posterior_table", "quality_table"]
