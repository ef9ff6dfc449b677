"""All offline metrics of generated reports at once, against their libraries called one report at a time.

python benchmarks/metrics.py [--pairs 1564] [--processes 2]

Pairs of made-up reports of 100 to 250 words, as many as CT-RATE's validation split has studies with reports. Ours is
`measure_all` with every offline family, the start of its second process included. The peer calls sacrebleu (once for
each order), rouge-score, NLTK and the rules for one report after the other, as a user would write it; CIDEr is left out
there, since pycocoevalcap cannot be given document frequencies, and lengths and diversity have no library. Both must
give the same numbers, but for BLEU, which is another number for single reports. `vs_one_by_one` is the peer's seconds
over ours, larger is better. Imports and WordNet are loaded in this process before either clock. Processor seconds are
of all processes that ended by themselves; they tell more than seconds where the machine has other work.
"""

import argparse
import json
import os
import random
import re
import resource
import time

import numpy as np

from rlaif.datasets.phantom_phrases import NORMALS, PHRASES
from rlaif.metrics.measures.choice import OFFLINE, measure_all
from rlaif.metrics.measures.measured import Measured, ReportPair
from rlaif.metrics.measures.settings import MetricSettings
from rlaif.metrics.measures.wordnet import Synonyms, wordnet_folder
from rlaif.metrics.report_metrics import report_metrics
from rlaif.reports.phrases import sentences_of

PAIRS = 1564
WORDS = (100, 250)
# How often a candidate leaves out one of its reference's sentences, says it as it is, or says another one.
LEFT_OUT, SAID, OTHER = 0.2, 0.45, 0.35
_LOBES = ("upper lobe", "middle lobe", "lower lobe", "lingula", "apex")
_TAILS = (
    "", "", "", "on image {number}", "which is best seen in series {number}", "close to the pleura", "near the fissure",
    "measured in the axial plane as {number} mm", "without change since {number} months", "at the level of the carina",
)  # fmt: skip
SETTINGS = MetricSettings(
    names=OFFLINE, wordnet=None, bert_score=None, bert_score_layer=None, ratescore=None, radgraph=None, radbert=None
)
_PEERS_METRICS = ("rouge1", "rouge2", "rougeL", "meteor", "rules_score", "finding_f1", "hallucinated", "omitted")


def written_pairs(number: int) -> list[ReportPair]:
    """Reports of the phantom's wording, most findings' sentences unlike all others, and candidates that err."""
    dice = random.Random(8)
    pairs = []
    for _ in range(number):
        aim = dice.randint(*WORDS)
        reference: list[str] = []
        while sum(len(sentence.split()) for sentence in reference) < aim - 8:
            reference.append(_sentence(dice))
        candidate = []
        for sentence in reference:
            what = dice.random()
            if what >= LEFT_OUT:
                candidate.append(sentence if what < LEFT_OUT + SAID else _sentence(dice))
        pairs.append(ReportPair(" ".join(reference), " ".join(candidate)))
    return pairs


def _sentence(dice: random.Random) -> str:
    if dice.random() < 0.5:
        return dice.choice(dice.choice(NORMALS)[2])
    severity = dice.choice(("mild", "moderate", "severe"))
    side = dice.choice(("left", "right"))
    phrase = dice.choice(dice.choice(list(PHRASES.values())))
    size = f"{dice.randint(3, 60)} mm"
    words = phrase.format(
        side=side,
        lobe=dice.choice(_LOBES),
        size=size,
        severity=severity,
        severely=f"{severity}ly",
        site=f"{side} hilar",
    )
    tail = dice.choice(_TAILS).format(number=dice.randint(2, 400))
    return f"{words[0].upper()}{words[1:].rstrip('.')} {tail}".rstrip() + "."


def one_by_one(pairs: list[ReportPair]) -> tuple[float, float, dict[str, float]]:
    """Seconds and processor seconds of the libraries' own calls, and the mean of each metric."""
    from nltk import word_tokenize
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.translate.meteor_score import meteor_score
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU

    bleus = [BLEU(max_ngram_order=order, effective_order=True) for order in range(1, 5)]
    wordnet: WordNetCorpusReader = Synonyms(wordnet_folder(None)).reader
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)

    def words(text: str) -> list[str]:
        # Punkt's sentences are a download.
        sentences = re.split(r"(?<=[.!?])\s+", text)
        return [word for sentence in sentences for word in word_tokenize(sentence, preserve_line=True)]

    rows = []
    before, started = _processor_seconds(), time.perf_counter()
    for pair in pairs:
        for bleu in bleus:
            bleu.sentence_score(pair.candidate, [pair.reference])
        row = {kind: score.fmeasure for kind, score in scorer.score(pair.reference, pair.candidate).items()}
        row["meteor"] = meteor_score([words(pair.reference)], words(pair.candidate), wordnet=wordnet)
        rows.append(row | report_metrics(pair.reference, None, pair.candidate))
    taken, processor_s = time.perf_counter() - started, _processor_seconds() - before
    return (
        taken,
        processor_s,
        {name: float(np.mean([row[name] for row in rows if name in row])) for name in _PEERS_METRICS},
    )


def _processor_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def together(pairs: list[ReportPair], processes: int) -> tuple[float, dict[str, Measured]]:
    """Seconds of all offline metrics, and the metrics."""
    started = time.perf_counter()
    measured, _ = measure_all(pairs, SETTINGS, processes)
    return time.perf_counter() - started, measured


def check(measured: dict[str, Measured], means: dict[str, float], reports: int) -> None:
    """Raises RuntimeError where the two ways disagree."""
    all_once = np.ones((1, reports))
    for name, mean in means.items():
        ours = float(measured[name].over(all_once)[0])
        if not np.isclose(ours, mean, rtol=1e-9):
            raise RuntimeError(f"{name} is {ours} together and {mean} one by one")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    pairs = written_pairs(given.pairs)
    measure_all(pairs[:1], SETTINGS)
    sentences = [
        sentence for pair in pairs for text in (pair.reference, pair.candidate) for sentence in sentences_of(text)
    ]
    mean_words = np.mean([len(text.split()) for pair in pairs for text in (pair.reference, pair.candidate)])
    print(
        f"{len(pairs)} pairs, {mean_words:.0f} words a report, {len(set(sentences)) / len(sentences):.0%} of the "
        f"sentences distinct. Load before: {os.getloadavg()[0]:.1f}.\n",
        flush=True,
    )
    print("| how | metrics | seconds | reports a second | processor seconds |\n| --- | ---: | ---: | ---: | ---: |")
    row = "| {} | {} | {:.1f} | {:.0f} | {:.1f} |"
    before = _processor_seconds()
    ours_s, measured = together(pairs, given.processes)
    ours = len(measured), ours_s, len(pairs) / ours_s, _processor_seconds() - before
    print(row.format(f"together, {given.processes} processes", *ours), flush=True)
    peer_s, peer_processor_s, means = one_by_one(pairs)
    print(row.format("one by one, without CIDEr", len(means) + 4, peer_s, len(pairs) / peer_s, peer_processor_s))
    check(measured, means, len(pairs))
    print(f"\nLoad after: {os.getloadavg()[0]:.1f}.")
    print(json.dumps({"vs_one_by_one": round(peer_s / ours_s, 2)}))


if __name__ == "__main__":
    main()
