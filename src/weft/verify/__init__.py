"""Whether a response is right: the one seam to whatever checks responses.

::

    base.py          the seam: verdicts and their reasons
    opening.py       from a name to a verifier
    exact.py         the same text
    regex.py         what a pattern finds is the right answer
    math.py          the same number, set, or expression
    code/            the response's program passes the prompt's tests
    workers.py       processes that can be killed, for work that may hang or eat memory
    as_quality.py    a verifier where a quality is asked for
"""
