"""The contract of adapters, as `ornstein.core.conformance` tests it on one that is asked for by name."""

import dataclasses
import json
import tempfile
from typing import Any

import numpy as np
import pytest
import torch

from ornstein.core.adapter import DomainAdapter
from ornstein.core.config import class_path, from_config, to_config
from ornstein.core.registry import load_domain

__all__ = [
    "adapter",
    "test_adapter_encodes_what_it_decoded",
    "test_adapter_is_rebuilt_from_its_configuration",
    "test_adapter_packs_and_unpacks",
    "test_adapter_refuses_no_steps_and_no_samples",
    "test_adapter_samples_do_not_depend_on_the_batch",
    "test_adapter_saves_and_loads",
]


@pytest.fixture(scope="module")
def adapter(request: pytest.FixtureRequest) -> DomainAdapter:
    """The adapter that ``--adapter`` names."""
    name = request.config.getoption("--adapter", default=None)
    if name is None:
        pytest.skip("no adapter asked for: give --adapter NAME")
    arguments = json.loads(request.config.getoption("--adapter-args") or "{}")
    torch.manual_seed(0)
    built = from_config({"class_path": class_path(load_domain(name)), "init_args": arguments}, DomainAdapter)
    return built.eval()


def _states(adapter: DomainAdapter, num: int) -> Any:
    condition = adapter.prepare_condition(num, **adapter.preview_condition(num))
    shape = adapter.state_shape(num, condition)
    generator = torch.Generator().manual_seed(1)
    if isinstance(shape, dict):
        return {name: torch.randn(part, generator=generator) for name, part in shape.items()}
    return torch.randn(shape, generator=generator)


def _draw(adapter: DomainAdapter, num: int, **options: Any) -> dict[str, np.ndarray]:
    sampler = dataclasses.replace(adapter.sampler, steps=2)
    conditions = adapter.prepare_condition(5, **adapter.preview_condition(5))
    first = options.get("first", 0)
    part = {name: value[first : first + num] for name, value in conditions.items()}
    return adapter.pack(adapter.sample(num, sampler=sampler, seed=5, **options, **part))  # type: ignore[arg-type]


def _assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray], atol: float = 1e-4) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert value.shape == b[name].shape
        if not np.issubdtype(value.dtype, np.number):  # such as strings, as wide as the longest of their batch
            assert (value == b[name]).all()
            continue
        assert value.dtype == b[name].dtype
        # Integers (levels of grey) may round either way.
        slack = atol if np.issubdtype(value.dtype, np.floating) else 1
        np.testing.assert_allclose(value.astype(float), b[name].astype(float), rtol=1e-4, atol=slack)


def test_adapter_is_rebuilt_from_its_configuration(adapter: DomainAdapter) -> None:
    config = to_config(adapter)
    rebuilt = from_config(json.loads(json.dumps(config)), DomainAdapter)
    assert to_config(rebuilt) == config
    shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (adapter, rebuilt)]
    assert shapes[0] == shapes[1]


def test_adapter_encodes_what_it_decoded(adapter: DomainAdapter) -> None:
    example_batch = getattr(adapter, "example_batch", None)
    if callable(example_batch):
        batch = example_batch(3)
    else:
        objects, conditions = adapter.decode(_states(adapter, 3)), adapter.preview_condition(3)
        batch = (objects, *conditions.values()) if conditions else objects
    example = adapter.encode(batch)
    decoded = adapter.decode(example.state)
    if not callable(example_batch):
        _assert_same(adapter.pack(objects), adapter.pack(decoded))
    tensors = example.state.values() if isinstance(example.state, dict) else [example.state]
    assert all(len(tensor) == 3 for tensor in (*tensors, *example.condition.values()))
    loss = adapter.objective(adapter.denoiser, example.state, mask=example.mask, **example.condition)
    assert loss.shape == (3,)
    assert loss.isfinite().all()


def test_adapter_samples_do_not_depend_on_the_batch(adapter: DomainAdapter) -> None:
    together = _draw(adapter, 5)
    _assert_same(together, _draw(adapter, 5, batch_size=1))
    _assert_same({name: value[3:] for name, value in together.items()}, _draw(adapter, 2, first=3))
    assert any(np.any(value[0] != value[1]) for value in together.values())


def test_adapter_packs_and_unpacks(adapter: DomainAdapter) -> None:
    packed = _draw(adapter, 2)
    _assert_same(packed, adapter.pack(adapter.unpack(packed)), atol=0)


def test_adapter_saves_and_loads(adapter: DomainAdapter) -> None:
    with tempfile.TemporaryDirectory() as folder:
        adapter.save_pretrained(folder)
        loaded = DomainAdapter.from_pretrained(folder)
    assert type(loaded) is type(adapter)
    assert to_config(loaded) == to_config(adapter)
    for name, value in adapter.state_dict().items():
        assert torch.equal(value.cpu(), loaded.state_dict()[name]), name
    _assert_same(_draw(adapter, 2), _draw(loaded, 2), atol=1e-6)


def test_adapter_refuses_no_steps_and_no_samples(adapter: DomainAdapter) -> None:
    with pytest.raises(ValueError, match="steps"):
        dataclasses.replace(adapter.sampler, steps=0)
    with pytest.raises(ValueError, match="num"):
        adapter.sample(0)
