"""Recipes: one YAML file that takes a user from prompts to a measured, better model.

::

    reading.py      the file: YAML with its lines, lists, defaults, and what it may hold
    expansion.py    stages over the product of lists; ``{name}`` in values
    graph.py        ``stage:NAME`` in values; order; cycles
    kinds/          what each kind of stage takes, leaves, costs, and how it is run
    plan.py         a recipe and a folder: every stage checked, before anything runs
    content.py      what a file or folder holds, as a digest
    ordering.py     rows of a finished output by their ids
    record.py       ``stage.json``: what a finished stage was made from
    state.py        what is done, what would run, and why
    running.py      `weft run`
    costs.py        requests, tokens and steps, before they are spent
    table.py        the table over seeds that a recipe ends with
    templates.py    the recipes that ship with Weft, for `weft init`

From Python::

    outcomes = run(read_plan(Path("recipe.yaml"), Path("output")))

Importing this package loads neither torch nor transformers.
"""
