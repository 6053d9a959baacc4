"""Which settings can change while a cluster runs, and what a value of each may be.

Type, description and most bounds are those of the settings classes, so that each is defined once. What is not listed here
cannot change safely in a process that runs: `docs/operations.md` says of each why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from ringmaster.config.cluster_settings import ClusterSettings
from ringmaster.config.quantities import format_size
from ringmaster.config.serving_settings import ServingSettings
from ringmaster.config.settings import NodeSettings
from ringmaster.config.types import MIN_MEMORY_BYTES

AppliesTo = Literal["nodes", "masters", "all"]
Value = int | float | str
"""As in JSON: bytes, seconds, or a text."""

_LONGEST: Final = 100
"""Characters of a text: no rate, size or duration is longer."""

_WEEK_S: Final = 7 * 86400.0
_LEAST_INTERVAL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Changeable:
    """One setting. `minimum`, `maximum`: in `unit`, None where there is none. `choices`: all values, if they can be listed.

    `example`: a value as people write it.
    """

    name: str
    applies_to: AppliesTo
    unit: str
    description: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    example: str
    parse: Callable[[Any], Any]

    def checked(self, value: object) -> Value:
        """`value`, from JSON, as processes take it. Raises `ValueError`, which says what a right value is."""
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise self._wrong(f"{_kind_of(value)} is no value for it")
        if isinstance(value, str) and len(value) > _LONGEST:
            raise self._wrong(f"a text of {len(value)} characters is no value for it")
        try:
            found: Value = self.parse(value)
        except ValidationError as error:
            said = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            if self.choices or said.startswith("Input"):
                said = f"{value!r} is no value for it"
            raise self._wrong(said) from error
        if not isinstance(found, str) and not self._is_within(found):
            raise self._wrong(f"{value!r} is out of range")
        return found

    def _is_within(self, number: float) -> bool:
        if self.name == "snapshot_interval" and 0 < number < _LEAST_INTERVAL_S:
            return False
        return (self.minimum is None or number >= self.minimum) and (
            self.maximum is None or number <= self.maximum
        )

    def _wrong(self, reason: str) -> ValueError:
        how = "" if "; write" in reason else f"; write {self.form}"
        return ValueError(f"{self.name}: {reason}{how}")

    @property
    def form(self) -> str:
        """What a value looks like, for a sentence."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.minimum is None or self.maximum is None:
            return f"one such as {self.example}"
        low, high = (
            format_size(int(each)) if self.unit.startswith("bytes") else f"{each:,.9g}"
            for each in (self.minimum, self.maximum)
        )
        unit = f" {self.unit}" if self.unit == "s" else ""
        return f"from {low} to {high}{unit}, such as {self.example}"


def _kind_of(value: object) -> str:
    kinds = {bool: "true or false", list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value), "that")


def _bound(metadata: list[Any], name: str) -> float | None:
    return next((float(getattr(each, name)) for each in metadata if hasattr(each, name)), None)


def _made(
    kind: type[ClusterSettings],
    name: str,
    applies_to: AppliesTo,
    unit: str,
    example: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Changeable:
    field = kind.model_fields[name]
    annotation, metadata = field.annotation, list(field.metadata)
    optional = [each for each in get_args(annotation) if each is not type(None)]
    choices: tuple[str, ...] = ()
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
    elif type(None) in get_args(annotation):
        annotation = optional[0]
    full: Any = Annotated[annotation, *metadata] if metadata else annotation
    return Changeable(
        name=name,
        applies_to=applies_to,
        unit=unit,
        description=(field.description or "").replace("`", ""),
        minimum=_bound(metadata, "ge") if minimum is None else minimum,
        maximum=_bound(metadata, "le") if maximum is None else maximum,
        choices=choices,
        example=example,
        parse=TypeAdapter(full).validate_python,
    )


_ALL: Final = (
    _made(
        NodeSettings, "max_memory", "nodes", "bytes", "512MB",
        minimum=MIN_MEMORY_BYTES, maximum=2**44,
    ),
    _made(ClusterSettings, "eviction", "nodes", "", "lru"),
    _made(NodeSettings, "rebalance_rate", "nodes", "bytes/s", "32MiB", maximum=2**40),
    _made(
        ClusterSettings, "snapshot_interval", "nodes", "s", "30s (0: none; else 0.5 s at least)",
        minimum=0, maximum=_WEEK_S,
    ),
    _made(NodeSettings, "max_clients", "nodes", "connections", "20000"),
    _made(ServingSettings, "max_fills", "masters", "copies", "32"),
    _made(ServingSettings, "shed_after", "masters", "s", "20ms"),
    _made(ServingSettings, "rate_limit_address", "masters", "", '1000/s (or "": no limit)'),
    _made(ServingSettings, "rate_limit_token", "masters", "", '1000/s (or "": no limit)'),
    _made(ServingSettings, "max_connections", "masters", "connections", "20000"),
    _made(ServingSettings, "max_connections_per_address", "masters", "connections", "500"),
    _made(ClusterSettings, "log_level", "all", "", "debug"),
)  # fmt: skip

CHANGEABLE: Final[Mapping[str, Changeable]] = {each.name: each for each in _ALL}
"""By name."""


def checked_values(values: Mapping[str, object]) -> dict[str, Value]:
    """Those that this version knows and takes: a later version may have stored others."""
    found = {}
    for name, value in values.items():
        known = CHANGEABLE.get(name)
        if known is not None:
            try:
                found[name] = known.checked(value)
            except ValueError:
                continue
    return found
