"""How good a text is: the one seam to whatever judges responses.

::

    base.py            the seam
    opening.py         from a name to a judge
    asking.py          a question to an engine, with a strict form and one second chance
    answer.py          the right answer is known
    reward_model.py    a model trained to give rewards
    judge.py           any engine, asked for a grade
    plain.py           tags and control tokens in text that a model is shown
"""
