"""The card of an output of rows, on one page of Markdown: what it is, who wrote it, what made it, its use.

Its head is what the hub reads. The same files make the same card. Every name, command and setting is quoted,
so that nothing in a model's name or a path acts as Markdown. Keys and passwords are hidden. What is not known
is not in it; a licence is never guessed.
"""

from __future__ import annotations

import glob
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from weft.publishing.columns import described
from weft.publishing.contents import SIDES, Contents, DataKind, Maker, read_contents
from weft.publishing.licence import front_matter, licence_fields
from weft.publishing.lineage import commands, lineage
from weft.publishing.markdown import LONGEST, block, code, table
from weft.publishing.secrets import hidden
from weft.records import Author, PerAuthor
from weft.store import Manifest

SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
LARGER = "10M<n<100M"
ABOUT = {
    DataKind.TRACES: "Responses with their thinking, each with who wrote which words of it.",
    DataKind.VERIFIED: "Responses with their thinking, each with who wrote which words of it, and a verdict.",
    DataKind.PAIRS: "Preference pairs: two responses to one prompt, the better one under `chosen`.",
    DataKind.WOVEN: "Preference pairs woven from traces: two continuations of one prefix, as token ids "
    "without an end, since neither is a whole response.",
}
REJECTED = {
    DataKind.TRACES: "not complete, each with its reason",
    DataKind.VERIFIED: "not kept, each with its reason",
    DataKind.PAIRS: "not kept, each with its reason",
    DataKind.WOVEN: "not kept, each with its reason",
}
STRATEGIES = {
    "tessy": "teacher and student in turn (TESSY, arXiv 2604.14164)",
    "student-only": "by the student alone",
    "teacher-only": "by the teacher alone",
    "teacher-think": "thinking by the teacher, answer by the student",
    "teacher-answer": "thinking by the student, answer by the teacher",
    "teacher-mix": "half by the teacher alone, half by the student alone",
    "teacher-score": "by the student; of several the best by the teacher's likelihood",
    "teacher-reference": "by the student, with the teacher's response in view (SDFT)",
}
MOST_MAKERS = 12
FACTS = ("prompts", "traces", "inputs", "data", "verifier")
"""Of a manifest's ``info``: what people ask for first."""


def data_card(path: Path, *, license: str | None = None) -> str:
    """The card of the output ``path``: traces, verified traces, or pairs.

    Args:
        license: the hub's identifier, such as cc-by-4.0; ``None``: the card says that none was given.

    Raises:
        UserError: there is no such file, Weft does not know its rows, or it is no identifier of a licence.
    """
    return card_of(read_contents(path), license=license)


def card_of(contents: Contents, *, license: str | None = None, repo: str | None = None) -> str:
    """The card of what was read; see :func:`data_card`.

    Args:
        repo: of the hub, where the data will be loaded from; ``None``: from the file.
    """
    parts = [
        _title(contents),
        _counts(contents),
        _authors(contents),
        _made(contents),
        _columns(contents),
        _use(contents, repo),
        _licence(contents, license),
    ]
    text = _head(contents, license) + "\n" + "\n\n".join(part for part in parts if part) + "\n"
    return str(hidden(text))


def _head(contents: Contents, license: str | None) -> str:
    rows = contents.main.rows
    kinds = {DataKind.PAIRS: ["preference"], DataKind.WOVEN: ["preference"]}
    strategies = sorted({maker.strategy for maker in contents.makers} & STRATEGIES.keys())
    configs = [_config("default", contents.main.path, default=True)] if rows else []
    if contents.rejected:
        configs.append(_config("rejected", contents.rejected.path))
    return front_matter(
        {
            **licence_fields(license),
            "task_categories": ["text-generation"],
            "tags": ["weft", "synthetic", "trl", *kinds.get(contents.kind, ["reasoning"]), *strategies],
            "size_categories": [next((name for most, name in SIZES if rows < most), LARGER)],
            "configs": configs,
        }
    )


def _config(name: str, path: Path, default: bool = False) -> dict[str, Any]:
    files = [{"split": "train", "path": glob.escape(path.name)}]
    return {"config_name": name, "data_files": files, **({"default": True} if default else {})}


def _title(contents: Contents) -> str:
    name = code(contents.main.path.stem)
    return f"# {name}\n\n{ABOUT[contents.kind]} Made by Weft, which recorded the rest of this page."


def _counts(contents: Contents) -> str:
    main, rejected = contents.main, contents.rejected
    rows = [(code(main.path.name), f"{main.rows:,}", f"to train on; prompts: {contents.prompts:,}")]
    if rejected:
        rows.append((code(rejected.path.name), f"{rejected.rows:,}", REJECTED[contents.kind]))
    parts = ["## What is in it", table(("file", "rows", ""), rows)]
    if contents.is_open:
        parts.append("The last run was stopped before its end, or still writes: rows may be missing.")
    outcomes = Counter(main.outcomes) + Counter(rejected.outcomes if rejected else {})
    if outcomes:
        parts.append(table(("outcome", "rows"), _by_number(outcomes)))
    if contents.verdicts:
        parts.append(table(("verdict", "rows"), _by_number(contents.verdicts)))
    if contents.means:
        names = sorted({name.partition("_")[2] for name in contents.means})
        cells = [
            (code(name), *(_mean(contents.means.get(f"{side}{name}")) for side in SIDES)) for name in names
        ]
        parts.append(table(("mean of", "chosen", "rejected"), cells))
    return "\n\n".join(parts)


def _mean(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def _by_number(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(code(name), f"{count:,}") for name, count in ordered]


def _authors(contents: Contents) -> str:
    if not any(tokens.total for tokens in contents.tokens.values()):
        return ""
    rows = []
    for strategy, tokens in sorted(contents.tokens.items()):
        shares = (f"{tokens.of(author):,} ({_share(tokens, author)})" for author in Author)
        rows.append((code(strategy), *shares, STRATEGIES.get(strategy, "")))
    head = ("strategy", "tokens by the student", "tokens by the teacher", "written")
    return (
        f"## Who wrote what\n\n{table(head, rows)}\n\nOf the rows to train on, in the student's tokens; "
        "`spans` says it word by word."
    )


def _share(tokens: PerAuthor, author: Author) -> str:
    return f"{tokens.of(author) / tokens.total:.1%}" if tokens.total else "–"


def _made(contents: Contents) -> str:
    parts = ["## What made it"]
    if contents.makers:
        parts.append(_makers(contents.makers))
    manifest = contents.manifest
    if manifest is None:
        return "\n\n".join([*parts, "No manifest lies beside the file; nothing more is known."])
    steps = lineage(contents.main.path, manifest)
    rows = {"Weft": [code(manifest.weft)], "begun": [code(manifest.created)]}
    for step in steps:
        said = [(name, step.info[name]) for name in FACTS if name in step.info]
        said += [(f"the {name}", _brief_engine(engine)) for name, engine in _engines(step)]
        for name, value in said:
            rows.setdefault(name, []).append(_facts(value))
    # Several inputs may have been written by several models.
    cells = [(_plain(name), "; ".join(dict.fromkeys(values))) for name, values in rows.items()]
    parts.append(table(("", ""), cells))
    if lines := commands(steps):
        parts.append(block("\n".join(lines), "sh"))
    settings = yaml.safe_dump(_brief(steps[-1].settings), sort_keys=False, allow_unicode=True)
    parts.append(f"What decides the rows; the manifest has it in full:\n\n{block(settings, 'yaml')}")
    return "\n\n".join(parts)


def _engines(step: Manifest) -> Iterator[tuple[str, Any]]:
    """The engines of a manifest by what they were for."""
    engines = step.info.get("engines")
    yield from engines.items() if isinstance(engines, Mapping) else ()
    if "engine" in step.info:
        yield "student", step.info["engine"]


def _makers(makers: Mapping[Maker, int]) -> str:
    ordered = sorted(makers.items(), key=lambda item: (-item[1], item[0]))
    rows = [
        (
            f"{count:,}",
            code(maker.strategy),
            code(maker.student),
            code(maker.teacher),
            code(_sampling(maker.sampling)),
            code(maker.seed),
        )
        for maker, count in ordered[:MOST_MAKERS]
    ]
    more = len(ordered) - MOST_MAKERS
    said = f"\n\n… and {more:,} more combinations, in the rows." if more > 0 else ""
    return table(("rows", "strategy", "student", "teacher", "sampling", "seed"), rows) + said


def _sampling(text: str) -> str:
    """Each author's sampling; once where both have the same."""
    by_author = {author: _flat(given) for author, given in json.loads(text).items()}
    if len(set(by_author.values())) == 1:
        return next(iter(by_author.values()))
    return "; ".join(f"{author}: {said}" for author, said in by_author.items())


def _flat(given: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in dict(given).items() if value is not None)


def _brief_engine(said: Any) -> Any:
    """What tells one engine from another; the rest is in the manifest."""
    names = ("model", "revision", "commit", "weights", "served", "dtype", "engine", "version", "transformers")
    if not isinstance(said, Mapping):
        return said
    return {name: said[name] for name in names if said.get(name) is not None}


def _brief(value: Any) -> Any:
    """Settings without what a chat template renders, and with the start of long texts."""
    if isinstance(value, Mapping):
        return {name: _brief(inner) for name, inner in value.items() if name not in ("chat_template", "row")}
    if isinstance(value, list):
        return [_brief(inner) for inner in value]
    if isinstance(value, str) and len(value) > LONGEST:
        return value[:LONGEST] + "…"
    return value


def _facts(value: Any) -> str:
    """A JSON value in one cell."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_plain(str(name))} {_facts(inner)}" for name, inner in value.items()) or "–"
    if isinstance(value, list) and not any(isinstance(inner, Mapping) for inner in value):
        return ", ".join(code(str(inner)) for inner in value) or "–"
    return code(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _plain(name: str) -> str:
    """A name of ours as it is; any other quoted."""
    return (
        name
        if all(part.isalnum() and part.isascii() for part in name.replace("_", " ").split())
        else code(name)
    )


def _columns(contents: Contents) -> str:
    if not contents.columns:
        return ""
    rows = [(code(name), kind, described(name)) for name, kind in contents.columns.items()]
    return f"## Columns\n\n{table(('column', 'type', ''), rows)}"


def _use(contents: Contents, repo: str | None) -> str:
    name = contents.main.path.name
    source = f'"json", data_files={json.dumps(name, ensure_ascii=False)}' if repo is None else f'"{repo}"'
    load = f'from datasets import load_dataset\n\nrows = load_dataset({source}, split="train")'
    file = shlex.quote(name) if repo is None else repo
    train = {
        DataKind.PAIRS: f"weft align --model STUDENT --data {file} -o aligned",
        DataKind.WOVEN: f"weft align --model STUDENT --data {file} -o aligned",
    }.get(contents.kind, f"weft sft --model STUDENT --data {file} -o finetuned")
    notes = {
        DataKind.PAIRS: "Rows are TRL's conversational `prompt`, `chosen` and `rejected`.",
        DataKind.WOVEN: "Rows are token ids of the student's vocabulary, for "
        "`weft.preference.PrefixDPOTrainer`; TRL's own trainer would add an end to them.",
    }
    default = (
        "Rows are TRL's conversational `prompt` and `completion`. Where `training_template` names a "
        "template, train with that: the student's own would drop thinking."
    )
    said = notes.get(contents.kind, default)
    return f"## How to use it\n\n{block(load, 'python')}\n\n{block(train, 'sh')}\n\n{said}"


def _models(contents: Contents) -> list[str]:
    """The models that wrote the text, by the rows and the manifests."""
    names = {name for maker in contents.makers for name in (maker.student, maker.teacher) if name}
    for step in lineage(contents.main.path, contents.manifest) if contents.manifest else ():
        said = [engine.get("model") for _, engine in _engines(step) if isinstance(engine, Mapping)]
        names |= {str(model) for model in said if model} if not contents.makers else set()
    return sorted(names)


def _licence(contents: Contents, license: str | None) -> str:
    fields = licence_fields(license)
    named = fields.get("license_name") or fields.get("license")
    said = (
        f"{code(named)}, as whoever made this card gave it."
        if named
        else "None was given, so none is claimed: without one, others have no right to these data."
    )
    models = _models(contents)
    wrote = f" ({', '.join(map(code, models[:MOST_MAKERS]))})" if models else ""
    return (
        f"## Licence\n\n{said}\n\nWeft does not know the terms of the models that wrote the text{wrote}, nor "
        "those of the prompts. Some forbid to train other models on what a model wrote, or ask for "
        "attribution. Whether these data may be published and trained on is for you to check."
    )
