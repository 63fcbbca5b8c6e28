"""A comparison as one page that opens offline; it has no script."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from markupsafe import Markup

from humanseg.compare import pairs
from humanseg.compare.pairs import Pair
from humanseg.compare.pictures import NEITHER, ONLY_FIRST, ONLY_SECOND, embedded
from humanseg.compare.statistics import LEVEL, Difference
from humanseg.markup import html, joined
from humanseg.offline_page import filled

HERE = Path(__file__).parent
BAR = 160  # pixels of the width of an interval's drawing

Drawn = Callable[[Pair, int], list[np.ndarray] | None]  # the panels of a photograph; None where they can't be drawn


def draw(found: list[Pair], metric: str, draws: int, shown: int, drawn: Drawn) -> str:
    """The page's HTML.

    Args:
        metric: what wins and losses are measured by. shown: how many of each.
    """
    first = found[0].first
    return filled(
        HERE / "compare.html",
        title=html("{} photographs, {} networks", len(first.scores), len(found) + 1),
        facts=_facts(found),
        how=html(
            "The difference is b - a. Its {} interval is the symmetric bootstrap-t over photographs, of {} draws. A metric "
            "that is a ratio of pixels is that of the drawn photographs' sums. Each interval holds for itself: where nothing "
            "differs in truth, one of twenty leaves 0 out.",
            f"{LEVEL:.0%}",
            f"{draws:,}",
        ),
        pairs=joined(_section(pair, metric, shown, drawn) for pair in found),
    )


def _facts(found: list[Pair]) -> Markup:
    sides = [found[0].first, *(pair.second for pair in found)]
    facts = [(side.label, html("<code>{}</code> {}", side.path, side.told)) for side in sides]
    facts.append(("written", time.strftime("%Y-%m-%d %H:%M")))
    return joined(html("<div><dt>{}</dt><dd>{}</dd></div>", *fact) for fact in facts)


def _section(pair: Pair, metric: str, shown: int, drawn: Drawn) -> Markup:
    head = html("<h2>{} against a</h2>", pair.second.label)
    won, lost = pair.wins(shown), pair.losses(shown)
    by = f"by {metric} of a photograph, and by accuracy of one of nobody"
    parts = [
        _figures("Wins", f"the largest gains of b, {by}", pair, won, drawn),
        _figures("Losses", f"the largest gains of a, {by}", pair, lost, drawn),
    ]
    return html("<section>{}{}</section>{}", head, _table(pair), joined(parts))


def _table(pair: Pair) -> Markup:
    heads = ("metric", "a", "b", "b - a", f"{LEVEL:.0%} interval", "", "b better", "equal")
    head = joined(html("<th scope=col>{}</th>", name) for name in heads)
    several = len(pair.found) > 1
    bodies = []
    for source, own in pair.found.items():
        if several:
            count = next(iter(own.values())).photographs
            name = html("{} <small>{} photographs</small>", source or "all sources", count)
            bodies.append(html('<tr class="source"><th colspan="8">{}</th></tr>', name))
        widest = max([abs(end) for one in own.values() for end in (one.low, one.high) if end is not None] or [1]) or 1
        bodies += [_row(metric, one, widest) for metric, one in own.items()]
    form = '<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    return html(form, head, joined(bodies))


def _row(metric: str, one: Difference, widest: float) -> Markup:
    words = (pairs.number(one.first), pairs.number(one.second), pairs.signed(one.difference), pairs.between(one))
    cells = joined(html("<td>{}</td>", word) for word in words)
    shares = joined(html("<td>{}</td>", pairs.share(part)) for part in (one.better, one.equal))
    state = ("better" if one.difference > 0 else "worse") if one.resolved else "open"
    return html('<tr class="{}"><td>{}</td>{}<td>{}</td>{}</tr>', state, metric, cells, _bar(one, widest), shares)


def _bar(one: Difference, widest: float) -> Markup:
    """The interval as a line beside 0, which is the middle."""
    if one.low is None:
        return Markup()
    low, high, middle = (BAR / 2 * (1 + 0.95 * value / widest) for value in (one.low, one.high, one.difference))
    form = (
        '<svg width="{}" height="16" role="img" aria-label="interval"><line class="zero" x1="{}" x2="{}" y1="0" y2="16"/>'
        '<line class="reach" x1="{}" x2="{}" y1="8" y2="8"/><circle cx="{}" cy="8" r="3.5"/></svg>'
    )
    ends = (f"{value:.1f}" for value in (low, high, middle))
    return html(form, BAR, BAR // 2, BAR // 2, *ends)


def _figures(head: str, what: str, pair: Pair, places: list[int], drawn: Drawn) -> Markup:
    """The photographs of some places with their pictures."""
    figures = joined(_figure(pair, place, drawn(pair, place)) for place in places)
    nothing = html("<p>{}</p>", "There are none.")
    form = "<section><h3>{} <small>{}</small></h3>{}{}</section>"
    return html(form, head, what, _legend() if places else "", figures or nothing)


def _figure(pair: Pair, place: int, pictures: list[np.ndarray] | None) -> Markup:
    scores, metric = pair.first.scores, pair.judged_by[place]
    one, other = (side.scores.values(metric)[place].item() for side in (pair.first, pair.second))
    numbers = f"{metric} a {pairs.number(one)}, b {pairs.number(other)}, {pairs.signed(pair.weights[place])}"
    named = " ".join(filter(None, (scores.sources[place], scores.images[place])))
    panels = ("photograph", "truth", pair.first.label, pair.second.label, "who is right")
    images = joined(
        html('<div><img src="{}" alt="{}"><small>{}</small></div>', embedded(picture), name, name)
        for name, picture in zip(panels, pictures or (), strict=bool(pictures))
    )
    form = '<figure><figcaption><b>{}</b> {}</figcaption><div class="panels">{}</div></figure>'
    return html(form, numbers, named, images)


def _legend() -> Markup:
    def shown(colours: Iterable[tuple[tuple[int, int, int], str]]) -> Iterable[Markup]:
        for colour, name in colours:
            yield html('<li><i style="background:rgb{}"></i>{}</li>', colour, name)

    named = ((ONLY_SECOND, "only b is right"), (ONLY_FIRST, "only a is right"), (NEITHER, "neither is"))
    return html('<ul class="legend">{}</ul>', joined(shown(named)))
