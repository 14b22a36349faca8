"""Training states in safetensors: every value comes back as it was, and a broken file says so."""

import math
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ornstein.core.training import SafetensorsCheckpointIO, load_state, save_state
from ornstein.core.training.checkpoint import read_header

KEYS = st.text(max_size=4) | st.integers(-5, 5) | st.just("!")
PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
TREES = st.recursive(
    PLAIN,
    lambda t: st.lists(t, max_size=3) | st.lists(t, max_size=3).map(tuple) | st.dictionaries(KEYS, t, max_size=3),
    max_leaves=10,
)


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(tree=TREES)
def test_plain_trees_come_back(tree: Any, tmp_path: Path) -> None:
    save_state({"tree": tree}, tmp_path / "state")
    assert _same(load_state(tmp_path / "state"), {"tree": tree})


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 2), (2, 3, 4, 5)])
def test_tensors_come_back_in_type_and_layout(dtype: torch.dtype, shape: tuple[int, ...], tmp_path: Path) -> None:
    tensor = torch.randn(shape).to(dtype)
    views = [tensor, tensor.t() if tensor.ndim == 2 else tensor]
    if tensor.ndim == 4:
        views.append(tensor.contiguous(memory_format=torch.channels_last))
    save_state({"views": views}, tmp_path / "state")
    assert _same(load_state(tmp_path / "state"), {"views": views})


def test_shared_tensors_are_stored_once_and_overlapping_ones_apart(tmp_path: Path) -> None:
    weight = torch.randn(1000)
    state = {"a": weight, "b": weight, "tail": weight[500:], "column": weight.view(10, 100)[:, 3]}
    save_state(state, tmp_path / "state")
    assert (tmp_path / "state").stat().st_size < 4 * 1600 + 1500
    loaded = load_state(tmp_path / "state")
    assert loaded["a"] is loaded["b"]
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, {"b": object()}]}, r"state\['x'\]\['a'\]\[1\]\['b'\] is a builtins.object"),
        ({(1, 2): 3}, r"has the key \(1, 2\)"),
        (torch.zeros(2, dtype=torch.complex64), "complex64"),
        (torch.eye(2).to_sparse(), "sparse"),
        ({1, 2}, "builtins.set"),
    ],
)
def test_other_values_are_refused(value: Any, where: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=where):
        save_state({"x": value}, tmp_path / "state")
    assert not (tmp_path / "state").exists()


def _corrupt_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[20:40] = b"\xff" * 20
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-8]), "truncated or damaged"),
        (lambda p: p.write_bytes(p.read_bytes()[:30]), "truncated or damaged"),
        (lambda p: p.write_bytes(b""), "truncated or damaged"),
        (_corrupt_header, "truncated or damaged"),
        (lambda p: p.write_bytes(b"PK\x03\x04" + b"0" * 100), "truncated or damaged"),
        (lambda p: save_file({"a": torch.zeros(1)}, p), "no training checkpoint of ornstein"),
        (
            lambda p: save_file({}, p, {"format": "ornstein-training-state-1", "state": '{"!": "code"}'}),
            "truncated or damaged .unknown node 'code'",
        ),
        (
            lambda p: save_file({}, p, {"format": "ornstein-training-state-1", "state": '{"!": "tensor", "key": "9"}'}),
            "truncated or damaged",
        ),
    ],
)
def test_broken_files_say_so(damage: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_state({"x": torch.randn(10), "global_step": 3}, path)
    damage(path)
    with pytest.raises(ValueError, match=message) as caught:
        load_state(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no training checkpoint"):
        load_state(tmp_path / "last.ckpt")


def test_the_header_is_read_alone(tmp_path: Path) -> None:
    save_state({"global_step": 12}, tmp_path / "state")
    assert read_header(tmp_path / "state")["global_step"] == "12"


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    save_state({"global_step": 1}, path)

    def fail(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        save_state({"global_step": 2}, path)
    assert load_state(path) == {"global_step": 1}


def _write_for_ever(path: Path, started: Any) -> None:
    torch.set_num_threads(1)  # a forked process must not use the threads of its parent
    for step in range(10**6):
        save_state({"global_step": step, "x": [torch.full((10_000,), float(step)) for _ in range(30)]}, path)
        if step == 4:
            started.set()


def test_a_process_killed_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    context = multiprocessing.get_context("fork")
    started = context.Event()
    writer = context.Process(target=_write_for_ever, args=(path, started))
    writer.start()
    assert started.wait(60)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    state = load_state(path)
    assert state["global_step"] >= 4
    assert all(torch.equal(x, torch.full((10_000,), float(state["global_step"]))) for x in state["x"])


def test_lightning_plugin(tmp_path: Path) -> None:
    plugin = SafetensorsCheckpointIO()
    plugin.save_checkpoint({"optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}}]}, tmp_path / "a")
    assert plugin.load_checkpoint(tmp_path / "a")["optimizer_states"][0]["state"][0]["step"] == 3
    with pytest.raises(TypeError, match="storage_options"):
        plugin.save_checkpoint({}, tmp_path / "a", storage_options={})
    plugin.remove_checkpoint(tmp_path / "a")
    plugin.remove_checkpoint(tmp_path / "a")
    assert not (tmp_path / "a").exists()
