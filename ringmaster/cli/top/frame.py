"""One frame of `ringmaster top` as lines of text, for a width and a height. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.text import Text

from ringmaster.cli.tables import STYLES, readable_bytes
from ringmaster.cli.top.figures import NodeRates, Rates, Watch

COLUMNS: Final = (
    *("node", "state", "memory", "used", "hit ratio", "reads/s", "writes/s", "evictions/s"),
    *("partitions", "entries"),
)
"""Of a node. It can be sorted by each of them."""

_TEXTS: Final = ("node", "state", "memory")
_EXPENDABLE: Final = (
    "entries",
    "used",
    "writes/s",
    "memory",
    "partitions",
    "evictions/s",
    "hit ratio",
    "reads/s",
)
"""What a narrow terminal does without, in this order. Ids are never cut."""

_BAR_CELLS: Final = 10
_LEAST_OF_A_PART: Final = 3
"""Lines below which hot keys or changes are left out: a blank one, the heading, one row."""

HELP: Final = (
    "q       quit",
    "p       pause, and go on",
    "s       sort by the next column",
    "?       this help, and back",
    "",
    "reads/s, writes/s, evictions/s and the hit ratio are of the last 5 seconds, of",
    "all requests for a node's keys; partitions are primaries + replicas.",
    "memory is what entries take of what they can have.",
)


@dataclass(frozen=True, slots=True)
class Options:
    """How to show it. `height` None: all there is. `plain`: only ASCII can be printed."""

    width: int
    height: int | None = None
    sort: str = "node"
    paused: bool = False
    help: bool = False
    plain: bool = False


def next_column(sort: str) -> str:
    """The column after this one."""
    return COLUMNS[(COLUMNS.index(sort) + 1) % len(COLUMNS)]


def frame(watch: Watch, url: str, options: Options) -> list[Text]:
    """At most `height` lines; with fewer than they need, hot keys and changes give way first, then nodes. The last line says the keys."""
    footer = [] if options.height is None else [_footer(options)]
    room = None if options.height is None else max(0, options.height - len(footer))
    if options.help:
        body = [Text("ringmaster top", style="bold"), Text(), *map(Text, HELP)]
    elif watch.latest is None:
        body = [Text(url, style="bold"), _problem(watch.problem or "connecting")]
    else:
        body = list(_body(watch, url, options, room))
    if room is not None:
        body = [*body[:room], *[Text()] * (room - len(body))]
    return [*body, *footer]


def _body(watch: Watch, url: str, options: Options, room: int | None) -> Iterator[Text]:
    latest = watch.latest
    assert latest is not None  # noqa: S101 - the caller has looked
    status, rates = latest.status, watch.rates()
    head = list(_head(watch, url, status, rates, options.width))
    table = _table(_rows(status, rates, options), options)
    hot = list(_hot_keys(latest.hot_keys, options))
    changed = [Text(f"{at}  {sentence}") for at, sentence in watch.changes]
    if room is None:
        parts = [("hot keys", hot), ("recent changes", changed)]
        yield from [*head, *table]
    else:
        kept = head[: max(1, room - 2)]
        shown = table[: max(2, room - len(kept))]
        yield from [*kept, *shown]
        left = room - len(kept) - len(shown)
        parts = list(_fitted([("hot keys", hot), ("recent changes", changed)], left))
    for title, lines in parts:
        if lines:
            yield from [Text(), Text(title, style="bold"), *lines]


def _fitted(parts: Sequence[tuple[str, list[Text]]], room: int) -> Iterator[tuple[str, list[Text]]]:
    """Both in `room` lines: each gets half, and what the other does not need."""
    (first, ones), (second, others) = parts
    if room < 2 * _LEAST_OF_A_PART:
        yield first, ones[: max(0, room - 2)] if ones else []
        if not ones:
            yield second, others[: max(0, room - 2)]
        return
    share = max(room // 2, room - 2 - len(others)) - 2
    yield first, ones[:share]
    yield second, others[: max(0, room - 4 - len(ones[:share]))]


def _head(
    watch: Watch, url: str, status: Mapping[str, Any], rates: Rates, width: int
) -> Iterator[Text]:
    health = str(status.get("health", "unknown"))
    title = Text(url, style="bold")
    title.append(f"  {health}", style=STYLES.get(health, "yellow"))
    if watch.problem:
        title = Text(url, style="bold")
        yield title
        yield _problem(watch.problem)
        yield Text("what follows is what was known last", style="dim")
    else:
        yield title
    yield from _wrapped(
        [
            f"epoch {status.get('epoch')}",
            f"{status.get('partitions')} partitions",
            f"{status.get('replicas')} copies each",
            f"eviction {status.get('eviction', 'unknown')}",
        ],
        width,
    )
    yield from _wrapped(list(_masters(status)), width)
    if rates.total is not None:
        yield from _wrapped(_totals(rates.total), width)
    yield from _wrapped(_moves(status, rates), width)
    for reason in status.get("reasons") or ():
        yield from (line for line in _lines(str(reason), width))


def _problem(sentence: str) -> Text:
    return Text(sentence, style="red")


def _masters(status: Mapping[str, Any]) -> Iterator[str]:
    controller = status.get("controller")
    names = [str(row.get("id")) for row in status.get("masters") or ()]
    if controller is not None and controller not in names:
        names.append(str(controller))
    for name in names:
        yield f"master {name}{' (controller)' if name == controller else ''}"
    if controller is None:
        yield "no controller"


def _totals(total: NodeRates) -> list[str]:
    ratio = "" if total.hit_ratio is None else f"{total.hit_ratio:.1%} hit"
    parts = [
        *(f"{total.reads:,.0f} reads/s", f"{total.writes:,.0f} writes/s", ratio),
        f"{total.evictions:,.0f} evictions/s",
    ]
    return [part for part in parts if part]


def _moves(status: Mapping[str, Any], rates: Rates) -> list[str]:
    """Copies on their way, and restores from snapshots; nothing if there are none."""
    rebalance, restore = status.get("rebalance") or {}, status.get("restore") or {}
    parts = []
    if rebalance.get("active"):
        parts.append(f"{rebalance.get('moving')} copies moving")
        parts.append(f"{readable_bytes(rates.moved_bytes)}/s")
        if eta_s := rebalance.get("eta_s"):
            parts.append(f"about {eta_s:.0f} s left")
    if rebalance.get("paused"):
        parts.append("rebalance is paused")
    if lacking := status.get("under_replicated"):
        parts.append(f"{lacking} partitions lack copies")
    if restore.get("active"):
        parts.append(f"{restore.get('partitions')} partitions being restored")
    return parts


def _wrapped(parts: Sequence[str], width: int) -> Iterator[Text]:
    """The parts with commas between, none of them broken."""
    line = ""
    for part in parts:
        if line and len(line) + 2 + len(part) > width:
            yield Text(f"{line},")
            line = part
        else:
            line = f"{line}, {part}" if line else part
    if line:
        yield Text(line)


def _lines(sentence: str, width: int) -> Iterator[Text]:
    line = ""
    for word in sentence.split():
        if line and len(line) + 1 + len(word) > width:
            yield Text(line, style="yellow")
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    yield Text(line, style="yellow")


def _rows(status: Mapping[str, Any], rates: Rates, options: Options) -> list[dict[str, Text]]:
    nodes = sorted(status.get("nodes") or (), key=lambda row: str(row.get("id")))
    found = [(node, rates.nodes.get(str(node.get("id")))) for node in nodes]
    # Numbers from the largest, texts from the first.
    found.sort(
        key=lambda pair: _sort_key(pair[0], pair[1], options.sort),
        reverse=options.sort not in _TEXTS[:2],
    )
    return [_cells(node, of_node, options) for node, of_node in found]


def _sort_key(node: Mapping[str, Any], of_node: NodeRates | None, column: str) -> Any:
    if column in ("node", "state"):
        return str(node.get("id" if column == "node" else "state"))
    if column in ("memory", "used"):
        return _used(node)
    if column in ("partitions", "entries"):
        return _held(node) if column == "partitions" else node.get("entries", 0)
    if of_node is None:
        return -1.0
    ratio = -1.0 if of_node.hit_ratio is None else of_node.hit_ratio
    return {"hit ratio": ratio, "reads/s": of_node.reads, "writes/s": of_node.writes}.get(
        column, of_node.evictions
    )


def _used(node: Mapping[str, Any]) -> float:
    usable = node.get("usable_bytes") or node.get("max_bytes") or 0
    return node.get("bytes", 0) / usable if usable else 0.0


def _held(node: Mapping[str, Any]) -> int:
    return int(node.get("primaries", 0)) + int(node.get("replicas", 0))


def _cells(node: Mapping[str, Any], of_node: NodeRates | None, options: Options) -> dict[str, Text]:
    state = str(node.get("state", "unknown"))
    cells = dict.fromkeys(COLUMNS, "") | {"node": str(node.get("id")), "state": state}
    if state not in ("left", "down"):
        cells["memory"] = _bar(_used(node), plain=options.plain)
        cells["used"] = readable_bytes(node.get("bytes", 0))
        cells["entries"] = f"{node.get('entries', 0):,}"
    filling = f" (+{node['filling']})" if node.get("filling") else ""
    cells["partitions"] = f"{node.get('primaries', 0)} + {node.get('replicas', 0)}{filling}"
    if of_node is not None:
        cells["reads/s"] = f"{of_node.reads:,.0f}"
        cells["writes/s"] = f"{of_node.writes:,.0f}"
        cells["evictions/s"] = f"{of_node.evictions:,.0f}"
        cells["hit ratio"] = "" if of_node.hit_ratio is None else f"{of_node.hit_ratio:.1%}"
    style = STYLES.get(state, "yellow")
    return {
        name: Text(text, style=style if name == "state" else "") for name, text in cells.items()
    }


def _bar(part: float, *, plain: bool) -> str:
    full, empty = ("#", ".") if plain else ("█", "░")
    cells = min(_BAR_CELLS, round(part * _BAR_CELLS))
    return f"{full * cells}{empty * (_BAR_CELLS - cells)} {part:4.0%}"


def _table(rows: Sequence[Mapping[str, Text]], options: Options) -> list[Text]:
    """The heading and a line a node, of the columns for which there is room."""
    names = list(COLUMNS)
    for name in _EXPENDABLE:
        if sum(_width(each, rows) + 1 for each in names) - 1 <= options.width:
            break
        names.remove(name)
    widths = {name: _width(name, rows) for name in names}
    heading = {
        name: Text(name, style="bold underline" if name == options.sort else "bold")
        for name in names
    }
    return [_line(heading, widths), *(_line(row, widths) for row in rows)]


def _width(name: str, rows: Sequence[Mapping[str, Text]]) -> int:
    return max([len(name), *(row[name].cell_len for row in rows)])


def _line(cells: Mapping[str, Text], widths: Mapping[str, int]) -> Text:
    padded = []
    for name, width in widths.items():
        cell = cells[name].copy()
        missing = width - cell.cell_len
        if name in _TEXTS:
            cell.append(" " * missing)
        else:
            cell.pad_left(missing)
        padded.append(cell)
    line = Text(" ").join(padded)
    line.rstrip()
    return line


def _hot_keys(rows: Sequence[Mapping[str, Any]], options: Options) -> Iterator[Text]:
    """Reads a second, masters with copies, node, key. Only where the screen is the limit is a key cut."""
    width = max((len(str(row.get("node"))) for row in rows), default=0)
    for row in rows:
        line = Text(
            f"{row.get('reads_per_s', 0.0):>10,.1f}/s  {row.get('copies', 0):>2} copies  "
            f"{row.get('node')!s:<{width}}  {row.get('key')}"
        )
        if options.height is not None:
            line.truncate(options.width, overflow="crop" if options.plain else "ellipsis")
        yield line


def _footer(options: Options) -> Text:
    text = f"q quit  p {'go on' if options.paused else 'pause'}  s sort ({options.sort})  ? help"
    line = Text("PAUSED  " if options.paused else "", style="bold yellow")
    line.append(text, style="dim")
    return line
