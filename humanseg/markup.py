"""HTML of texts that anybody may have written; the pages of reports and comparisons are made of it."""

from collections.abc import Iterable

from markupsafe import Markup

from humanseg.terminal import visible


def html(form: str, *values: object) -> Markup:
    """HTML with values in place of each `{}`. All that is no HTML is escaped, and so is what acts on a terminal."""
    return Markup(form).format(*(one if isinstance(one, Markup) else visible(one) for one in values))


def joined(parts: Iterable[Markup]) -> Markup:
    """Pieces of HTML behind each other."""
    return Markup().join(parts)
