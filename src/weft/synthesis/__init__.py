"""Writing traces: from a proposal to a run over many prompts.

::

    pen.py          one model's prefix of token ids, and the shared text in them
    seam.py         where text may pass from one author to the other
    loops.py        finding a loop while it is written
    rules.py        what ends a passage, and what holds while it is written
    limit.py        the length limit, in the student's tokens
    tags.py         tags that stand in the text as if they were words
    pace.py         how many tokens to ask for at a time
    ledger.py       what a trace costs
    passage.py      one stretch of text, by one writer or by two in turn
    cooperate.py    one prompt -> one response: thinking, then the final response
    strategies.py   which model writes what: TESSY and its baselines
    pool.py         many jobs side by side, until too many fail
    run.py          many prompts: what is left to do, done side by side
    facts.py        what the manifest says of an engine
    settings.py     what a run is asked to do
    synthesize.py   all of it together: settings and prompts in, files out
"""

from weft.synthesis.settings import SynthesisSettings
from weft.synthesis.synthesize import synthesize

__all__ = ["SynthesisSettings", "synthesize"]
