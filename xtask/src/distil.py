"""Distils a sentence model into a table of word pieces for the dense part of matching (see `cargo xtask distil`).

The model turns sentences of a general English corpus into vectors; the table is the one whose mean of piece vectors points nearest to
where they do, held to each piece's own vector where the corpus says little. Needs numpy, scipy, safetensors, tokenizers; nothing else runs
the model. The corpus is one-line descriptions of Debian packages, glosses and example sentences of WordNet, and requests made of both: no
tool, no labelled data.
"""

import argparse, hashlib, pathlib, random, re, struct

import numpy as np
import scipy.sparse as sparse
from safetensors.numpy import load_file
from tokenizers import Tokenizer

CLS, SEP = 101, 102
HEADS, HEAD = 12, 32
COMMON = 2e-3  # share of sentences from which on a piece says little
HOLD = 0.15  # how firmly a piece is held to its own vector
ROUNDS = 4  # of finding how long the mean of a sentence's pieces is, which is to be free
LENGTHS = 0.2, 3.0  # least and most of it, beside the length of a sentence's vector
STEPS_MAX = 30  # of the solver
COMMON_WORD = 1e-3  # share of sentences at which a word in a need loses a good quarter of its weight
SENTENCE_PIECES_MAX = 38
BATCH_PIECES = 4096
VERSION = 1

# Ways to ask: `{do}` stands for something to be done, `{thing}` and `{other}` for things, `{one}` for a thing with its article, `{text}` for a
# description. What all of them have in common says little, and the table is to learn that.
ASK_TO = """Can you {do}?|Could you {do} for me?|I want to {do}.|I need to {do}.|I would like to {do}, how do I do that?|Please {do}.|Help me {do}.
How do I {do}?|How can I {do}?|What is the best way to {do}?|Is there a way to {do}?|I am trying to {do}.|Do you know how to {do}?
Is it possible to {do}?|Show me how to {do}.|I'm looking for a tool to {do}.|Which tool can {do}?|I'd like you to {do}.
We have to {do} by tomorrow.|Would you be able to {do}?|Let me {do}."""
ASK_FOR = """Can you find {one}?|Tell me about {thing}.|I'm looking for {one}.|What is {thing}?|Where can I find {one}?
Give me information about {thing}.|I need some information on {thing}, please.|Show me {one}.|Can you recommend {one}?
What are the best options for {thing}?|Do you have any suggestions for {thing}?|I would like to know more about {thing}.
What's the latest on {thing}?|How does {thing} work?|Can you help me with {thing}?|I'm interested in {thing}.
Please provide details about {thing}.|Could you tell me more about {thing} and {other}?|Compare {thing} and {other} for me.
Find me a good {thing} near me.|How much does {one} cost?|Are there any {thing} available this week?|What do you know about {thing}?
I have a question about {thing}.|Search for {thing}.|List all {thing} that are about {other}.|Can I get a list of {thing}?
Is there any news about {thing} today?|Explain {thing} in simple terms.|I want to learn about {thing}.
Which {thing} should I choose for my {other}?|Create {one} for me.|Write something about {thing}.|Recommend me some {thing} for {other}."""
ASK_BY = """I need something like this: {text}|Can you help me find this: {text}?|Is there anything for {text}?|I'm looking for {text}
Could you please find {text}?|{text}, can you do that?|What can I use for {text}?"""
BEGIN = "Hi, |Hello! |Thanks. |I have a problem. |Quick question: |I'm planning something. "
BEGUN = 0.15  # share of requests that begin so


class Model:
    """A BERT of six layers, mean-pooled, in numpy."""

    def __init__(self, folder):
        self.weights = {k: v.astype(np.float32) for k, v in load_file(folder / "model.safetensors").items() if v.dtype != np.int64}
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def linear(self, x, name):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def forward(self, ids):
        """Vectors of rows of ids, all of one length."""
        rows, length = ids.shape
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:length]
        x = self.norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm").reshape(rows * length, -1)
        for layer in range(6):
            at = f"encoder.layer.{layer}."
            split = lambda name: self.linear(x, at + "attention.self." + name).reshape(rows, length, HEADS, HEAD).transpose(0, 2, 1, 3)
            query, key, value = split("query"), split("key"), split("value")
            seen = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(HEAD))
            seen = np.exp(seen - seen.max(-1, keepdims=True))
            seen = (seen / seen.sum(-1, keepdims=True)) @ value
            seen = seen.transpose(0, 2, 1, 3).reshape(rows * length, -1)
            x = self.norm(self.linear(seen, at + "attention.output.dense") + x, at + "attention.output.LayerNorm")
            inner = self.linear(x, at + "intermediate.dense")
            inner = 0.5 * inner * (1 + np.tanh(0.7978845608 * (inner + 0.044715 * inner**3)))
            x = self.norm(self.linear(inner, at + "output.dense") + x, at + "output.LayerNorm")
        return x.reshape(rows, length, -1).mean(1)

    def pieces(self, texts):
        return [e.ids[1:-1][:SENTENCE_PIECES_MAX] for e in self.tokenizer.encode_batch(texts)]

    def encode(self, rows):
        """Unit vectors of rows of pieces."""
        out = np.zeros((len(rows), HEADS * HEAD), np.float32)
        by_length = {}
        for at, row in enumerate(rows):
            by_length.setdefault(len(row), []).append(at)
        for length, places in by_length.items():
            step = max(1, BATCH_PIECES // (length + 2))
            for start in range(0, len(places), step):
                batch = places[start : start + step]
                out[batch] = self.forward(np.array([[CLS, *rows[at], SEP] for at in batch]))
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def entries(file):
    """The words of each entry of WordNet, what they mean, and the gloss as it stands, with its examples."""
    for line in file.read_text("latin-1").splitlines():
        if line.startswith("  ") or "|" not in line:
            continue
        head, gloss = line.split("|", 1)
        fields = head.split()
        words = [fields[4 + 2 * i].replace("_", " ").split("(")[0] for i in range(int(fields[3], 16))]
        yield words, re.sub(r'[;:]?\s*"[^"]*"', "", gloss).strip(" ;\n"), gloss


def glosses(folder):
    """WordNet's glosses with their words, and its example sentences."""
    for file in sorted(folder.glob("data.*")):
        for words, meaning, gloss in entries(file):
            yield ", ".join(words[:3]) + ": " + meaning
            yield from (said for said in re.findall(r'"([^"]+)"', gloss) if len(said.split()) > 3)


def descriptions(file):
    """First lines of package descriptions, few of those that begin alike."""
    found = set()
    for line in file.read_text("utf-8").splitlines():
        if line.startswith("Description:") and len(line.split()) > 3:
            found.add(re.sub(r"\s*\((transitional|dummy|common|debug)[^)]*\)", "", line[12:].strip()))
    alike = {}
    for line in sorted(found):
        start = tuple(line.split()[:3])
        alike[start] = alike.get(start, 0) + 1
        if alike[start] <= 3:
            yield line


def corpus(wordnet, packages):
    """All sentences, of both kinds in turn as long as there are both."""
    draw = random.Random(1)
    first, second = list(glosses(wordnet)), list(descriptions(packages))
    draw.shuffle(first)
    draw.shuffle(second)
    return [line for pair in zip(first, second) for line in pair] + first[len(second) :]


def requests(wordnet, lines, count):
    """Requests: for something to be done, for things, and for what is described."""
    draw = random.Random(7)
    first = lambda meaning: re.sub(r"\([^)]*\)", "", meaning.split(";")[0].strip()).strip()
    verbs = [first(meaning) for _, meaning, _ in entries(wordnet / "data.verb")]
    nouns = [(words, meaning.split(";")[0].strip()) for words, meaning, _ in entries(wordnet / "data.noun")]
    doing = [text for text in verbs if 2 <= len(text.split()) <= 9]
    things = [words[0] for words, _ in nouns if len(words[0].split()) <= 3]
    meant = [first(meaning) for _, meaning in nouns if 3 <= len(meaning.split()) <= 12]
    described = [line for line in lines if ": " not in line]
    to, after, by, begin = (re.split(r"[|\n]", ways) for ways in (ASK_TO, ASK_FOR, ASK_BY, BEGIN))
    for number in range(count):
        if number % 5 < 2:
            said = draw.choice(to).format(do=draw.choice(doing))
        elif number % 5 < 4:
            thing, other = draw.choice(things), draw.choice(things)
            one = ("an " if thing[0].lower() in "aeiou" else "a ") + thing
            said = draw.choice(after).format(thing=thing, other=other, one=one)
        else:
            said = draw.choice(by).format(text=draw.choice(described if draw.random() < 0.6 else meant).rstrip("."))
        yield (draw.choice(begin) if draw.random() < BEGUN else "") + said


def fit(mean, wanted, start):
    """The table V with the least |mean V - wanted|² + HOLD |V - start|², by conjugate gradients."""
    moved = np.zeros_like(start)
    residue = mean.T @ (wanted - mean @ start)
    way, size = residue.copy(), (residue * residue).sum(0)
    for _ in range(STEPS_MAX):
        ahead = mean.T @ (mean @ way) + HOLD * way
        far = size / np.maximum((way * ahead).sum(0), 1e-20)
        moved += far * way
        residue -= far * ahead
        before, size = size, (residue * residue).sum(0)
        way = residue + size / np.maximum(before, 1e-20) * way
    return start + moved


def fit_directions(mean, wanted, start):
    """The table whose means point where `wanted` does: how long each is comes of the round before."""
    table = fit(mean, wanted, start)
    for _ in range(ROUNDS):
        length = ((mean @ table) * wanted).sum(1) / np.maximum((wanted * wanted).sum(1), 1e-9)
        length = np.clip(length, *LENGTHS)
        table = fit(mean, wanted * (length / length.mean())[:, None], start)
    return table


def shares(rows, pieces):
    """By piece: the share of rows it stands in."""
    share = np.zeros(pieces)
    for row in rows:
        share[list(set(row))] += 1
    return share / len(rows)


def main():
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--model", type=pathlib.Path, required=True, help="folder with model.safetensors and tokenizer.json")
    parse.add_argument("--wordnet", type=pathlib.Path, required=True, help="folder with WordNet's data files")
    parse.add_argument("--packages", type=pathlib.Path, required=True, help="output of apt-cache dumpavail")
    parse.add_argument("--sentences", type=int, default=85_000, help="sentences the model reads")
    parse.add_argument("--requests", type=int, default=30_000, help="requests it reads beside them")
    parse.add_argument("--dimensions", type=int, default=128)
    parse.add_argument("--encoded", type=pathlib.Path, help="keep what the model said here (.npz), and use it again")
    parse.add_argument("--out", type=pathlib.Path, required=True)
    given = parse.parse_args()

    model = Model(given.model)
    texts = corpus(given.wordnet, given.packages)
    rows = model.pieces(texts)
    read = rows[: given.sentences] + model.pieces(list(requests(given.wordnet, texts, given.requests)))
    vocabulary = [piece for piece, _ in sorted(model.tokenizer.get_vocab().items(), key=lambda item: item[1])]
    # What the model says depends on what it reads: of other sentences, or another vocabulary, nothing is used again.
    asked = hashlib.sha256(repr((vocabulary, read)).encode()).hexdigest()
    said = np.load(given.encoded) if given.encoded and given.encoded.exists() else {}
    if "asked" in said and str(said["asked"]) == asked:
        own, wanted = said["own"], said["wanted"]
    else:
        own = model.encode([[at] for at in range(len(vocabulary))])
        wanted = model.encode(read)
        if given.encoded:
            # Renamed when it is whole: a run that is broken off leaves nothing that a later one would trip over.
            part = given.encoded.with_suffix(".part.npz")
            np.savez(part, own=own, wanted=wanted, asked=asked)
            part.replace(given.encoded)

    # Pieces the model was taught: English letters and digits. Others would look alike, whatever they mean.
    known = np.array([re.fullmatch(r"(##)?[a-z0-9\u00df-\u024f]+", piece) is not None for piece in vocabulary])
    share = shares(read, len(vocabulary))
    general = shares(rows, len(vocabulary))[known]

    general_wanted = wanted[: -given.requests or None]
    centre = general_wanted.mean(0)
    _, axes = np.linalg.eigh(np.cov(general_wanted.T))
    axes = axes[:, ::-1][:, : given.dimensions].astype(np.float32)
    wanted = (wanted - centre) @ axes
    spots = [(at, piece, 1 / len(row)) for at, row in enumerate(([p for p in r if known[p]] for r in read)) for piece in row]
    at, piece, weight = zip(*spots)
    mean = sparse.csr_matrix((weight, (at, piece)), shape=(len(wanted), len(vocabulary)), dtype=np.float32)
    start = (own - own[share > 0].mean(0)) @ axes * (COMMON / (COMMON + share))[:, None]
    guess = mean @ start
    start *= (guess * wanted).sum() / (guess * guess).sum()
    table = fit_directions(mean, wanted.astype(np.float32), start.astype(np.float32))[known]

    scales = (np.abs(table).max(1) / 127).astype("<f4")
    steps = np.round(table / np.maximum(scales, 1e-12)[:, None]).astype(np.int8)
    words = "".join(piece + "\n" for piece, is_known in zip(vocabulary, known) if is_known).encode()
    header = b"MMCPDENS" + struct.pack("<4I", VERSION, given.dimensions, len(table), len(words))
    telling = np.round(255 * np.sqrt(COMMON_WORD / (COMMON_WORD + general))).astype(np.uint8)
    data = header + words + scales.tobytes() + telling.tobytes() + steps.tobytes()
    given.out.write_bytes(data)
    print(f"{len(wanted)} sentences, {len(table)} pieces of {given.dimensions} dimensions, {len(data)} bytes")
    print(f"sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
