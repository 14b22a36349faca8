"""Time series: gaps filled, futures and likely series drawn, anomalies found, each with its uncertainty.

`TimeSeriesDiffusion` takes frames, arrays and files and gives results in their form; `CO2Data`, `ETTData`,
`NYCWeatherData`, `PhysioNetData` and `SeriesData` are data modules; patterns of what is missing are `Point`, `Block`
and others; `CSDINetwork` is the network of CSDI, which loads its authors' weights; judges and simple methods are in
`ornstein.domains.timeseries.judges`. Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.domains.timeseries.choosing import choose_sampler
    from ornstein.domains.timeseries.completion import METHODS
    from ornstein.domains.timeseries.csdi import CSDI_TABLE, CSDINetwork
    from ornstein.domains.timeseries.data import SeriesData, SeriesReference, SeriesSplit, WindowData
    from ornstein.domains.timeseries.diffusion import TimeSeriesDiffusion
    from ornstein.domains.timeseries.facts import SeriesFacts
    from ornstein.domains.timeseries.frames import as_panel
    from ornstein.domains.timeseries.missingness import (
        Blackout,
        Block,
        Forecast,
        Historical,
        Missingness,
        Mixture,
        Point,
        Random,
        SensorDropout,
        ValueDependent,
    )
    from ornstein.domains.timeseries.network import SeriesTransformer
    from ornstein.domains.timeseries.panel import Panel, Series
    from ornstein.domains.timeseries.physionet import CSDIProtocol, PhysioNetData, PhysioNetRecords, read_physionet
    from ornstein.domains.timeseries.report import imputation_report
    from ornstein.domains.timeseries.sources import CO2Data, ETTData, NYCWeatherData

__all__ = [
    "CSDI_TABLE",
    "METHODS",
    "Blackout",
    "Block",
    "CO2Data",
    "CSDINetwork",
    "CSDIProtocol",
    "ETTData",
    "Forecast",
    "Historical",
    "Missingness",
    "Mixture",
    "NYCWeatherData",
    "Panel",
    "PhysioNetData",
    "PhysioNetRecords",
    "Point",
    "Random",
    "SensorDropout",
    "Series",
    "SeriesData",
    "SeriesFacts",
    "SeriesReference",
    "SeriesSplit",
    "SeriesTransformer",
    "TimeSeriesDiffusion",
    "ValueDependent",
    "WindowData",
    "as_panel",
    "choose_sampler",
    "imputation_report",
    "read_physionet",
]

_PLACES = {
    "choosing": ("choose_sampler",),
    "completion": ("METHODS",),
    "csdi": ("CSDI_TABLE", "CSDINetwork"),
    "data": ("SeriesData", "SeriesReference", "SeriesSplit", "WindowData"),
    "diffusion": ("TimeSeriesDiffusion",),
    "facts": ("SeriesFacts",),
    "frames": ("as_panel",),
    "missingness": (
        "Blackout",
        "Block",
        "Forecast",
        "Historical",
        "Missingness",
        "Mixture",
        "Point",
        "Random",
        "SensorDropout",
        "ValueDependent",
    ),
    "network": ("SeriesTransformer",),
    "panel": ("Panel", "Series"),
    "physionet": ("CSDIProtocol", "PhysioNetData", "PhysioNetRecords", "read_physionet"),
    "report": ("imputation_report",),
    "sources": ("CO2Data", "ETTData", "NYCWeatherData"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
