"""Grids, animations, curves and the page that holds them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from ornstein.core import SDE, CosineSchedule, VESchedule
from ornstein.core.evaluation import memorisation
from ornstein.domains.images.figures import loss_curve, neighbour_figure, quality_figure, read_losses
from ornstein.domains.images.grids import grid, noise_levels, save_gif, save_grid


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_picture_in_its_place(channels, tmp_path):
    images = torch.rand(5, channels, 4, 6)
    sheet = grid(images, columns=3, scale=2)
    assert sheet.shape == (2 * 8 + 2, 3 * 12 + 4, channels)
    expected = (images[4] * 255).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(sheet[10:18:2, 14:26:2], expected)
    np.testing.assert_array_equal(sheet[10:, 28:], 255)
    save_grid(images, tmp_path / "new/grid.png", columns=3, scale=2)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new/grid.png")), sheet.squeeze())
    assert grid(images).shape[0] == 2 * 40 + 2


def test_grids_of_something_else_are_refused():
    for wrong in (torch.rand(2, 2, 4, 4), torch.rand(4, 4), torch.rand(0, 1, 4, 4)):
        with pytest.raises(ValueError, match="expected"):
            grid(wrong)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_has_all_frames(tmp_path, channels):
    frames = torch.rand(4, 2, channels, 5, 5).round()
    save_gif(frames, tmp_path / "a.gif", columns=2, scale=1, milliseconds=50, hold=700)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 4
        durations = []
        for i in range(4):
            film.seek(i)
            durations.append(film.info["duration"])
            got = np.asarray(film.convert("RGB"), dtype=int)
            expected = np.broadcast_to(grid(frames[i], columns=2, scale=1), got.shape)
            assert np.abs(got - expected).mean() < 12  # 256 colours
    assert durations == [50, 50, 50, 700]


@pytest.mark.parametrize("schedule", [CosineSchedule(), VESchedule()])
def test_noise_levels_start_from_the_picture_and_end_in_noise(schedule):
    images = torch.full((2, 1, 16, 16), 0.9)
    rows = noise_levels(images, SDE(schedule), [0.0, 0.5, 1.0])
    assert rows.shape == (6, 1, 16, 16)
    assert (rows[0] - 0.9).abs().mean() < 0.05
    assert (rows[2] * 2 - 1).std() == pytest.approx(1, abs=0.1)
    assert torch.equal(noise_levels(images, SDE(schedule), [0.5])[0], rows[1])


def test_losses_are_read_and_drawn(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss,smooth_loss,val_loss\n1,0.9,,\n2,,0.8,\n3,0.5,0.7,0.6\n")
    curves = read_losses(tmp_path / "metrics.csv")
    assert curves["loss"].tolist() == [[1, 0.9], [3, 0.5]]
    assert curves["val_loss"].tolist() == [[3, 0.6]]
    assert Image.open(io.BytesIO(loss_curve(curves))).size == (960, 540)
    with pytest.raises(FileNotFoundError, match=r"metrics\.csv of a run"):
        read_losses(tmp_path / "none.csv")


def test_quality_is_drawn():
    content = quality_figure({"DDIM": [(5, 3.0), (10, 1.0)], "Heun": [(5, 9.0)]}, floor=0.5, measure="distance")
    assert Image.open(io.BytesIO(content)).size == (960, 540)


def test_neighbours_are_paired_nearest_first():
    train = torch.rand(20, 1, 4, 4)
    samples = torch.cat([torch.rand(3, 1, 4, 4), train[7:8], train[2:3] * 0.99])
    copies = memorisation(*(x.flatten(1) for x in (samples, train, torch.rand(5, 1, 4, 4))))
    figure = neighbour_figure(samples, train, copies, count=2)
    np.testing.assert_array_equal(figure, grid(torch.stack([train[7], samples[4], train[7], train[2]]), 2))
