"""What all pages that open offline share: their policy, their colours in light and dark, and how they are filled.

The policy lets no script run but the page's own, which have a nonce that nobody can know beforehand, and nothing be loaded but
pictures of this machine, where a page asks for these.
"""

import json
import re
import secrets
from pathlib import Path

HEAD = Path(__file__).with_suffix(".html")


def filled(template: Path, local: bool = False, **parts: str) -> str:
    """A page: a template with its parts in place of each ``{{name}}``.

    Args:
        template: HTML; ``{{head}}`` stands where the shared part of the head goes, ``{{nonce}}`` in the tag of each script.
        local: whether it shows pictures that lie on this machine.
        parts: HTML, and the sources of scripts; ``title`` among them.
    """
    parts |= {"nonce": secrets.token_urlsafe(16), "images": " file:" * local}
    parts["head"] = _replaced(HEAD, parts)
    return _replaced(template, parts)


def _replaced(template: Path, parts: dict[str, str]) -> str:
    text = template.read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], text)  # in one pass: a name may hold {{data}}


def script_data(value: object) -> str:
    """JSON for a script of the type ``application/json``, which no name in it can end."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
