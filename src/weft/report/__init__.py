"""`weft report`: one HTML file for people, from everything that Weft wrote about some data.

::

    files.py       which files there are, and what each holds
    catalogue.py   all texts of these files in a few words each: traces, and how a student reads them
    sampling.py    which texts fit into the page
    texts.py       a text as the page carries it: pieces with numbers, clipped
    outside.py     text from outside, as the page shows it
    packing.py     lists of numbers as short strings
    loading.py     chosen rows, read again
    charts.py      plots as SVG: lines, dots, bars, heat maps
    axes.py        scales, ticks and marks of the plots
    blocks.py      what a page's section is made of: tables, plots, notes, verdicts
    distance.py    the style gap's section
    similarity.py  its part on the student's own traces
    ranking.py     the reward gap's section
    naming.py      short names of policies
    generating.py  its second half
    boundaries.py  the section of `weft boundary eval`
    evaluating.py  the section of `weft eval`
    tabled.py      the section of a recipe's table
    made.py        what made it all
    assembly.py    the page of it all
    writing.py     from paths to the file
    page/          template, style sheet, scripts

Importing this package loads nothing heavy; it opens no model and no network.
"""
