"""What others get to see of data and models: cards, licences, and repositories of the hub.

::

    contents.py      what an output of Weft's holds: its files, columns and counts, read once
    data_card.py     the card of data: head, figures, what made them, columns, how to load them
    lineage.py       the manifests behind an output: all steps that led to it
    columns.py       what Weft's columns hold, in words
    secrets.py       keys and passwords, which nobody gets to see
    markdown.py      names and commands quoted so that no card obeys them
    licence.py       a licence in a card's head, as the hub has it; never guessed
    destination.py   where something goes: repository, licence, private or public
    publish.py       data and models with their cards
    hub.py           the one seam to the hub: one commit to one repository

Nothing is published unless it is asked for, and then in private unless that is asked for, too.
"""

from weft.publishing.data_card import data_card
from weft.publishing.destination import Destination, destination
from weft.publishing.publish import publish_data, publish_model

__all__ = ["Destination", "data_card", "destination", "publish_data", "publish_model"]
