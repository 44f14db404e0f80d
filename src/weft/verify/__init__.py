"""Whether a response is right, and which traces to keep.

The one seam to whatever checks responses::

    base.py            the seam: verdicts and their reasons
    opening.py         from a name to a verifier
    exact.py           the same text
    regex.py           what a pattern finds is the right answer
    math.py            the same number, set, or expression
    code/              the response's program passes the prompt's tests
    task.py            reasoning-gym's own scorers
    scorers.py         the same in a worker, and its walls
    judge.py           an engine says whether both answers are the same
    workers.py         processes that can be killed, for work that may hang or eat memory
    as_quality.py      a verifier where a quality is asked for

`weft verify`, from traces to marked traces::

    settings.py        what is asked for
    marked.py          a trace with what was found of it, and its rows
    inputs.py          the traces of several files, checked
    marking.py         many traces, side by side, in order, resumable
    words.py           texts as words, for the two below
    duplicates.py      nearly the same as an earlier trace
    contamination.py   a benchmark's words in a trace
    self_check.py      does the verifier accept the right answers themselves?
"""
