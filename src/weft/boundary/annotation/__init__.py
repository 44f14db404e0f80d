"""Having a model mark what is style in stretches of thinking, and seeing how far two markings agree.

::

    windows.py      stretches of a trace's thinking, from sentence starts on
    prompt.py       what the annotator is asked, and asked again
    parsing.py      its answer: JSON alone, each span found in the text, or the reason why not
    settings.py     what a run is asked to do
    annotate.py     many windows side by side, each on disk as soon as it is answered
    agreement.py    two annotations of the same texts: kappa by token, boundary F1
"""
