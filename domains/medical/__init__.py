"""Medical pictures from raw measurements: CT from sinograms, MRI from k-space, with files, baselines and judges.

The physics is in `ornstein.domains.medical.physics`.
"""
