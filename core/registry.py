"""How domains are found: entry points of the group ``ornstein.domains``, ours and third parties' alike.

A package registers its adapter class in its ``pyproject.toml``:

    [project.entry-points."ornstein.domains"]
    weather = "my_package:WeatherDiffusion"

Looking the names up reads metadata only; a domain is imported when it is asked for.
"""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from ornstein.core.adapter import DomainAdapter
from ornstein.core.config import near

__all__ = ["DomainInfo", "domains", "load_domain"]

GROUP = "ornstein.domains"


@dataclass(frozen=True)
class DomainInfo:
    """What is known of a registered domain.

    Attributes:
        name: the name it registered, as in ``ornstein demo NAME``.
        target: the import path ``module:class`` of its adapter.
        distribution: the installed distribution that brings it, with ``version``.
        problem: why it cannot be imported, in one line, or None when it can.
    """

    name: str
    target: str
    distribution: str
    version: str
    problem: str | None

    @property
    def loads(self) -> bool:
        """Whether the adapter can be imported."""
        return self.problem is None


@cache
def _entries() -> dict[str, EntryPoint]:
    # An editable install shows the same entry twice (its own metadata and the source tree's); the first one wins.
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, entry)
    return dict(sorted(found.items()))


def domains() -> list[DomainInfo]:
    """Every registered domain, sorted by name, with the reason why one cannot be imported."""
    infos = []
    for name, entry in _entries().items():
        try:
            _load(entry)
            problem = None
        except (ImportError, OSError, TypeError) as error:
            problem = str(error)
        distribution = entry.dist.metadata["Name"] if entry.dist else "unknown"
        version = entry.dist.version if entry.dist else "unknown"
        infos.append(DomainInfo(name, entry.value, distribution, version, problem))
    return infos


def load_domain(name: str) -> type[DomainAdapter]:
    """The adapter class that registered ``name``.

    Raises:
        ValueError: no domain of that name is installed; the message names the nearest one.
        ImportError: a library that the domain needs is missing or cannot be loaded; the message names what to install.
        TypeError: the entry point leads to something that is no ``DomainAdapter``.
    """
    entry = _entries().get(name)
    if entry is None:
        known = ", ".join(_entries()) or "none"
        raise ValueError(f"no domain {name!r} is installed{near(name, _entries())}; installed: {known}")
    return _load(entry)


def _load(entry: EntryPoint) -> type[DomainAdapter]:
    try:
        cls = entry.load()
    except (ImportError, OSError, AttributeError) as error:  # OSError: a shared library that cannot be loaded
        reason = " ".join(str(error).split())
        owner = entry.dist.metadata["Name"] if entry.dist else None
        mend = f"pip install 'ornstein[{entry.name}]'" if owner == "ornstein" else f"reinstall {owner or entry.value}"
        raise ImportError(f"domain {entry.name!r} cannot be loaded: {reason}; try: {mend}") from error
    if not (isinstance(cls, type) and issubclass(cls, DomainAdapter)):
        raise TypeError(f"domain {entry.name!r}: {entry.value} is no DomainAdapter class")
    return cls
