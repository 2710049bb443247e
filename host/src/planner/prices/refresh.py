#!/usr/bin/env python3
"""Takes the prices of pydantic/genai-prices anew: what Cofferdam uses of them goes to `prices.json` beside this file.

    pip download --no-deps --no-binary :none: genai-prices==VERSION
    python3 refresh.py genai_prices-VERSION-py3-none-any.whl YYYY-MM-DD

The date is the day on which that version was published (`upload-time` in the index). Nothing of the wheel is run: its
`data.py`, which is a list of literals, is parsed. Change the version and the date in NOTICE.md too, and take its LICENSE.

Kept of each provider: its id, the pattern of its URLs, and the providers whose models it offers under their prices. Kept of each
model, in the order of the source, as the first that matches is taken: which names it goes by, and what text costs, in
US dollars for a million tokens as decimal text. Left out: names, comments, context windows, usage extractors, prices of
other modalities and of server-side tools (no request of ours has any), and prices of other ways of processing (batch,
priority, flex), which no request of ours asks for.

Names are written as text: `=x` is x and `=` alone the model's id, `^x` starts with it, `$x` ends with it, `~x` contains it, `/x` matches a regular
expression, `!x` does not. A list holds where one of them does, `{"all": []}` where all do. What begins with a negative look-ahead is
rewritten with `!`, as regular expressions that run in linear time have none.

`beyond` names what a request would pay for that tokens do not tell; such a model has no price here.
"""

import ast
import json
import pathlib
import re
import sys
import zipfile

# What we name them, by what the source names them. Of each a price is text, or `[base, [tokens, price], …]`: a request of
# more than so many tokens pays that price for all of its tokens.
PRICES = {
    "input_mtok": "input",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_mtok": "reply",
    "output_reasoning_mtok": "reasoning",
}

# Paid by every request, or for what such a model brings unasked.
BEYOND = {
    "requests_kcount",
    "output_citation_mtok",
    "output_image_mtok",
    "output_audio_mtok",
    "output_video_mtok",
}

SIGILS = {
    "ClauseEquals": ("equals", "="),
    "ClauseStartsWith": ("starts_with", "^"),
    "ClauseEndsWith": ("ends_with", "$"),
    "ClauseContains": ("contains", "~"),
    "ClauseRegex": ("regex", "/"),
}

NOT = re.compile(r"^\^\(\?!((?:[^()]|\((?:[^()])*\))*)\)$")


def value(node):
    """Reads a literal: calls of constructors become dictionaries with the constructor's name at `$`."""
    match node:
        case ast.Constant():
            return node.value
        case ast.List() | ast.Tuple():
            return [value(element) for element in node.elts]
        case ast.Dict():
            return {value(key): value(held) for key, held in zip(node.keys, node.values)}
        case ast.Attribute():
            return ast.unparse(node)
        case ast.Call():
            held = {keyword.arg: value(keyword.value) for keyword in node.keywords}
            return {"$": ast.unparse(node.func), "args": [value(arg) for arg in node.args], **held}
    raise ValueError(f"not a literal: {ast.unparse(node)}")


def providers(wheel):
    source = zipfile.ZipFile(wheel).read("genai_prices/data.py").decode()
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.AnnAssign) and statement.target.id == "providers":
            return value(statement.value)
    raise ValueError("data.py has no providers")


def clause(of, id):
    name = of["$"]
    if name == "ClauseOr":
        return [clause(each, id) for each in of["or_"]]
    if name == "ClauseAnd":
        return {"all": [clause(each, id) for each in of["and_"]]}
    if name == "ClauseEquals" and of["equals"] == id:
        return "="
    key, sigil = SIGILS[name]
    text = of[key]
    if sigil == "/" and "(?" in text.replace("(?:", ""):
        ahead = NOT.match(text)
        if not ahead:
            raise ValueError(f"look-around in {text}")
        return "!^" + ahead[1]
    return sigil + text


def decimal(of):
    text = of["args"][0]
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise ValueError(f"not a plain decimal: {text}")
    return text


def price(of):
    if of["$"] == "Decimal":
        return decimal(of)
    return [decimal(of["base"])] + [[tier["start"], decimal(tier["price"])] for tier in of["tiers"]]


def rates(of):
    held = {ours: price(of[theirs]) for theirs, ours in PRICES.items() if theirs in of}
    beyond = sorted(BEYOND & of.keys())
    return held | ({"beyond": beyond} if beyond else {})


def conditional(of):
    when = of.get("constraint")
    held = rates(of["prices"])
    if when is None:
        return held
    if when["$"] == "StartDateConstraint":
        year, month, day = when["start_date"]["args"]
        return {"from": f"{year:04}-{month:02}-{day:02}"} | held
    if when["$"] == "TimeOfDateConstraint":
        return {"at_times": True} | held
    raise ValueError(f"constraint {when['$']}")


def prices(of):
    return [conditional(each) for each in of] if isinstance(of, list) else [rates(of)]


def line(of):
    return json.dumps(of, separators=(",", ":"), ensure_ascii=False)


def main(wheel, date):
    version = re.search(r"genai_prices-([\d.]+)-", wheel)[1]
    told = []
    for provider in providers(wheel):
        models = [line([of["id"], clause(of["match"], of["id"]), prices(of["prices"])]) for of in provider["models"]]
        head = {"id": provider["id"], "url": provider["api_pattern"]}
        if provider.get("fallback_model_providers"):
            head["offers"] = provider["fallback_model_providers"]
        told.append(line(head)[:-1] + ',"models":[\n' + ",\n".join(models) + "\n]}")
    head = line({"version": version, "date": date})[:-1]
    text = head + ',"providers":[\n' + ",\n".join(told) + "\n]}\n"
    json.loads(text)
    pathlib.Path(__file__).with_name("prices.json").write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
