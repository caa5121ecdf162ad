"""The command line: one file a verb, each imported only when it runs."""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """Help of a verb.

    Args:
        meaning: What it does, in one line.
        examples: Commands.
        opens_model: Whether it opens a model for what it reads, and says when it is open.
        runs_on_all_ranks: Whether all processes that torchrun has started take part.
        shares_input: Whether these send each other what the first reads from standard input.
    """

    meaning: str
    examples: tuple[str, ...]
    opens_model: bool = False
    runs_on_all_ranks: bool = False
    shares_input: bool = False


VERBS: dict[str, Verb] = {
    "train": Verb(
        "Train a model on a file of text.",
        (
            "regard train pairs.tsv -o ende",
            "zcat pairs.tsv.gz | regard train - -o ende --minutes 15",
            "regard train reviews.jsonl --from bert-folder -o mood --set training.epochs=3",
            "regard train pairs.tsv --dry-run --json",
            "regard train -o ende --resume",
        ),
        runs_on_all_ranks=True,
        shares_input=True,
    ),
    "translate": Verb(
        "Translate text, a file, or standard input.",
        (
            'regard translate ende "Good morning"',
            'echo "A cat sat." | regard translate ende -',
            "regard translate ende letter.txt -o letter.de.txt --beam 8",
            "regard translate ende app.po -o app.de.po",
            'regard translate ende "Good morning" --nbest 3 --align --json',
        ),
        opens_model=True,
    ),
    "summarize": Verb(
        "Summarize a document, a table of documents, or standard input.",
        (
            "regard summarize news article.txt",
            "regard summarize news articles.jsonl -o summaries.txt",
            "cat lines.txt | regard summarize news - --beam 8 --json",
        ),
        opens_model=True,
    ),
    "classify": Verb(
        "Classify a text, or every line of a file.",
        (
            'regard classify mood "What a lovely day"',
            "regard classify mood - < lines.txt",
            "regard classify digits scans/ --top 3 --json",
        ),
        opens_model=True,
    ),
    "answer": Verb(
        "Answer a question by a text.",
        (
            'regard answer manual --context manual.md "How do I reset it?"',
            "regard answer manual --context manual.md - < questions.txt",
            "regard answer manual - < questions.jsonl > answers.jsonl",
        ),
        opens_model=True,
    ),
    "generate": Verb(
        "Continue a text.",
        (
            'regard generate tales "Once upon a time"',
            "regard generate tales - --max-tokens 50 < opening.txt",
            'regard generate tales "Once" --top-p 0.9 --num 3 --seed 1 --json',
        ),
        opens_model=True,
    ),
    "forecast": Verb(
        "Forecast the series of a file.",
        (
            "regard forecast demand series.csv",
            "regard forecast demand series.csv --horizon 48 -o forecast.svg",
            "regard forecast demand - --json < series.csv",
        ),
        opens_model=True,
    ),
    "evaluate": Verb(
        "Score a model on a file, next to baselines and another model.",
        (
            "regard evaluate ende test.tsv",
            "regard evaluate ende test.tsv --compare ende-small --worst 5",
            "regard evaluate mood test.jsonl --plot mood.svg",
            "zcat test.tsv.gz | regard evaluate ende - --json",
        ),
        runs_on_all_ranks=True,
    ),
    "explain": Verb(
        "Explain an output of a model, and how far to trust the explanation.",
        (
            'regard explain ende "The bank by the river" -o bank.html',
            'regard explain ende "The bank by the river" --contrast "Das Ufer"',
            "regard explain mood - --method ig,occlusion --json < line.txt",
            'regard explain manual "How do I reset it?" --context manual.md -o why.html',
            "regard explain ende --evaluate test.tsv",
            'regard explain mood "What a day" --influence 10 -o why.html',
        ),
    ),
    "serve": Verb(
        "Serve a model over HTTP: a page, and an API.",
        (
            "regard serve ende --port 8000",
            "regard serve mood --host 0.0.0.0 --max-requests 200",
            "regard serve bart-folder --verb summarize --json",
        ),
        opens_model=True,
    ),
    "check": Verb(
        "Report on a data file, without training.",
        (
            "regard check pairs.tsv",
            "regard check table.csv --columns English,French --lang en-fr",
            "zcat pairs.tsv.gz | regard check - --json",
        ),
    ),
    "export": Verb(
        "Export a model to the format of another library.",
        (
            "regard export tales -o tales-hf",
            "regard export tales --to hf -o tales-hf --json",
        ),
    ),
    "quantize": Verb(
        "Write a model folder with weights of 8 bits.",
        (
            "regard quantize ende -o ende8",
            "regard quantize ende -o ende8 --json",
        ),
    ),
    "info": Verb(
        "Describe a model folder.",
        (
            "regard info ende",
            "regard info ende --length 512 --json",
            "regard info ende --diagram svg -o ende.svg",
            "regard info ende --diagram mermaid -o ende.mmd",
            "regard info mood --curvature -o spectrum.svg",
        ),
    ),
    "demo": Verb(
        "Train and try a model on the embedded corpus, in minutes.",
        (
            "regard demo",
            "regard demo -o dates --minutes 1 --json",
        ),
    ),
}
"""The verbs; each is a function in the module of its name."""

BENCHES: dict[str, Verb] = {
    "attention": Verb(
        "Measure time and memory of attention, next to other libraries.",
        (
            "regard bench attention --lengths 128,1024",
            "regard bench attention --patterns 'full;local:256|global:0' --no-memory",
            "regard bench attention --lengths 512 --peers sdpa --json",
        ),
    ),
}
"""The verbs after ``regard bench``."""
