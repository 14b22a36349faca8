"""Small classes that the tests of configurations build."""

from typing import Any, ClassVar, Literal

__all__ = ["Careless", "Holder", "Loose", "Recorder", "Typed"]


class Holder:
    """Holds one value."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Typed:
    """Has arguments of several types."""

    def __init__(
        self,
        number: float = 1.0,
        mode: Literal["fast", "slow"] = "fast",
        pair: tuple[int, int] = (0, 0),
        items: list[int] | None = None,
    ) -> None:
        self.number, self.mode, self.pair, self.items = number, mode, pair, items


class Recorder:
    """Counts how often it was built."""

    built: ClassVar[int] = 0

    def __init__(self) -> None:
        type(self).built += 1


class Careless:
    """Forgets its argument."""

    def __init__(self, width: int) -> None:
        self.size = width


class Loose:
    """Takes anything."""

    def __init__(self, **options: Any) -> None:
        self.options = options
