"""Supervised fine-tuning through TRL, on traces that say who wrote what.

::

    settings.py     the settings of a run
    authors.py      who wrote each token of a training row
    texts.py        rows of any kind, as token ids and labels
    preparing.py    all rows of a run: tokenised once, counted, looked through
    survey.py       what the rows hold, before anything is trained
    packing.py      whether the model keeps several texts of one row apart
    trainer.py      TRL's trainer, a little stricter
    card.py         the model's card
    sft.py          the run

Importing this package loads neither torch nor TRL.
"""
