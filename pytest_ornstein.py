"""The pytest options of `ornstein.core.conformance`.

A module of its own, since pytest loads it in every run and must not import torch for it.
"""

import pytest

pytest.register_assert_rewrite("ornstein.core.conformance_adapters")  # which pytest does not collect, but imports


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ornstein", "ornstein's conformance suites")
    group.addoption("--adapter", metavar="NAME", help="registered domain whose adapter ornstein.core.conformance tests")
    group.addoption("--adapter-args", metavar="JSON", help="arguments of the adapter's constructor, as a JSON object")
