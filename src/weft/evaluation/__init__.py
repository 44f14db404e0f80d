"""`weft eval`: how good a model is, and how it compares.

::

    settings.py     what an evaluation is asked to do
    result.py       what it found: typed, as JSON, as pandas
    context.py      what its parts share: settings, checked tasks, who is told
    answering.py    a model's responses to a task's prompts, and what became of each
    verdicts.py     the same with verdicts
    written.py      one model at all tasks, in all ways of drawing
    figures.py      accuracy, pass@k, differences prompt by prompt
    baseline.py     an evaluation that was made before
    preferring.py   which of two responses is better: a judge, in both orders
    judging.py      the judge at all tasks
    winning.py      win rates, raw and at equal lengths
    harness.py      lm-evaluation-harness, passed through to
    words.py        what a reader has to know beside the figures
    evaluate.py     all of it together: settings in, a folder with eval.json out
    shown.py        the result in a terminal

Importing this package loads nothing heavy.
"""
