"""A licence as the hub's cards have it. It is never guessed: what nobody gave is left out.

It does not know what a licence allows, nor which one the models' and prompts' terms ask for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from weft.errors import UserError

# The hub's identifiers, as its documentation of repository licences lists them.
_KNOWN = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
    c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl
    ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0
    odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
    deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2
    llama3.3 llama4 grok2-community gemma unknown other
"""
KNOWN = frozenset(_KNOWN.split())
_ID = re.compile(r"[a-z0-9][a-z0-9.+_-]{0,99}")
_HEAD = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


def licence_fields(license: str | None) -> dict[str, str]:
    """What a card's head says of a licence: nothing without one, the hub's identifier of one that it knows,
    and ``other`` with its name for any other.

    Raises:
        UserError: it is no identifier.
    """
    if license is None:
        return {}
    id = re.sub(r"\s+", "-", license.strip().lower())
    if not _ID.fullmatch(id):
        raise UserError(
            f"no identifier of a licence: {license!r}",
            where="--license",
            expected="an identifier such as apache-2.0, cc-by-4.0 or mit",
            remedy="give its identifier; one that the hub does not know is named as another licence",
        )
    return {"license": id} if id in KNOWN else {"license": "other", "license_name": id}


def with_licence(card: str, license: str | None, where: str = "README.md") -> str:
    """A card with this licence in its head, in place of one that is there; without one, the card as it is.

    Args:
        where: what the card is called, for the message.

    Raises:
        UserError: it is no identifier, or the card's head is not YAML.
    """
    fields = licence_fields(license)
    if not fields:
        return card
    found = _HEAD.match(card)
    head = _mapping(found[1], where) if found else {}
    kept = {name: value for name, value in head.items() if not str(name).startswith("license")}
    return front_matter({**fields, **kept}) + (card[found.end() :] if found else "\n" + card)


def front_matter(head: Mapping[Any, Any]) -> str:
    """The head of a card, with its marks and a line feed after them."""
    return f"---\n{yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True)}---\n"


def _mapping(text: str, where: str) -> dict[Any, Any]:
    try:
        head = yaml.safe_load(text)
    except yaml.YAMLError as error:
        head = str(error)
    if not isinstance(head, dict | None):
        raise UserError(
            "the head of the card is not YAML", where=where, remedy="mend what stands between its two ---"
        )
    return head or {}
