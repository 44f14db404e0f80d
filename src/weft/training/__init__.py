"""What `weft align` and `weft sft` share: one training run through TRL, in one folder.

::

    settings.py     the settings that every run has
    arguments.py    settings in TRL's terms: types, adapter, loading
    folder.py       the output: whether a run may go on, and from where
    quiet.py        without what is no news
    trackers.py     where figures go
    cached.py       rows of a generator, on disk
    voice.py        one line each time that something is logged
    ending.py       a trainer that ends once
    trainer.py      what a trainer refuses, its figures, its weights
    job.py          the run, from the folder's check to its card
    card.py         parts of a model's card

Importing this package loads neither torch nor TRL.
"""
