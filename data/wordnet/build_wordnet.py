"""Build wordnet.zip: WordNet 3.0 in the layout that NLTK's corpus reader opens.

Debian's package wordnet-base has the database (data.*, index.*, *.exc, cntlist.rev), but neither
`lexnames` nor `index.sense`, which NLTK opens too. Both follow from the other files and from the
manual pages lexnames(5WN), senseidx(5WN) and cntlist(5WN), and are made here.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet-base
    python data/wordnet/build_wordnet.py wordnet-base/usr/share/wordnet

Names are sorted and dates fixed, so the same input and liblzma give the same bytes.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
POS_FILES = ("noun", "verb", "adj", "adv")
COPIED = (
    *(f"{kind}.{pos}" for kind in ("data", "index") for pos in POS_FILES),
    *(f"{pos}.exc" for pos in POS_FILES),
    "cntlist.rev",
)
# Part-of-speech numbers of sense keys and lexnames; s is an adjective satellite.
SS_TYPES = {"n": 1, "v": 2, "a": 3, "r": 4, "s": 5}

# In the order of their numbers, 00 to 44.
LEXNAMES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute "
    "noun.body noun.cognition noun.communication noun.event noun.feeling noun.food noun.group "
    "noun.location noun.motive noun.object noun.person noun.phenomenon noun.plant "
    "noun.possession noun.process noun.quantity noun.relation noun.shape noun.state "
    "noun.substance noun.time verb.body verb.change verb.cognition verb.communication "
    "verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion "
    "verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl"
)

README = """WordNet 3.0 in the layout of NLTK's corpora.

Unchanged from the release: data.*, index.noun, index.verb, index.adj, index.adv, *.exc and
cntlist.rev. Generated from those by build_wordnet.py: lexnames, index.sense.
The licence is in LICENSE. https://wordnet.princeton.edu
"""


def lexnames() -> str:
    """The file `lexnames`: number, name and part-of-speech number, tab separated."""
    numbers = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}
    rows = (
        f"{number:02d}\t{name}\t{numbers[name.split('.')[0]]}\n"
        for number, name in enumerate(LEXNAMES.split())
    )
    return "".join(rows)


def entries(dict_dir: Path, name: str) -> Iterator[list[str]]:
    """The fields of each line of an index or data file, without its licence and glosses."""
    with open(dict_dir / name, encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith("  "):
                yield line.split(" | ")[0].split()


def synset_words(fields: list[str]) -> list[tuple[str, int]]:
    """(word in lower case, lex_id) of a synset's words; adjectives keep markers, "galore(ip)"."""
    count = int(fields[3], 16)
    words = fields[4 : 4 + 2 * count : 2]
    lex_ids = fields[5 : 5 + 2 * count : 2]
    return [(w.lower(), int(i, 16)) for w, i in zip(words, lex_ids, strict=True)]


def head_offset(fields: list[str]) -> str:
    """The offset of the head synset that an adjective satellite belongs to (its pointer &)."""
    start = 4 + 2 * int(fields[3], 16)
    pointers = fields[start + 1 : start + 1 + 4 * int(fields[start])]
    return pointers[pointers.index("&") + 1]


def index_sense(dict_dir: Path) -> str:
    """The file `index.sense`: sense key, synset offset, sense number and tag count, sorted.

    A sense key is lemma%ss_type:lex_filenum:lex_id:head_word:head_id, with a head for adjective
    satellites only: the first word of the head synset of their cluster, which keeps its syntactic
    marker, as the keys of cntlist.rev do ("above%5:00:00:preceding(a):00").
    """
    tag_counts = {
        key: count
        for key, _, count in map(str.split, (dict_dir / "cntlist.rev").read_text().splitlines())
    }
    lines = []
    for pos in POS_FILES:
        numbers = {
            (lemma, offset): number
            for lemma, *rest in entries(dict_dir, f"index.{pos}")
            # rest: pos, synset_cnt, p_cnt, pointer symbols, sense_cnt, tagsense_cnt, offsets
            for number, offset in enumerate(rest[5 + int(rest[2]) :], start=1)
        }
        synsets = {fields[0]: fields for fields in entries(dict_dir, f"data.{pos}")}
        for offset, fields in synsets.items():
            head = ":"
            if fields[2] == "s":
                head_word, head_id = synset_words(synsets[head_offset(fields)])[0]
                head = f"{head_word}:{head_id:02d}"
            for word, lex_id in synset_words(fields):
                lemma = word.split("(")[0]
                key = f"{lemma}%{SS_TYPES[fields[2]]}:{fields[1]}:{lex_id:02d}:{head}"
                lines.append(f"{key} {offset} {numbers[lemma, offset]} {tag_counts.get(key, 0)}\n")
    return "".join(sorted(set(lines)))


def build(dict_dir: Path, out: Path) -> None:
    """Write the archive `out` from the database files in `dict_dir`."""
    files = {name: (dict_dir / name).read_bytes() for name in COPIED}
    files["lexnames"] = lexnames().encode()
    files["index.sense"] = index_sense(dict_dir).encode()
    files["LICENSE"] = (HERE / "LICENSE").read_bytes()
    files["README"] = README.encode()
    partial = out.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(f"wordnet/{name}", date_time=(2006, 12, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            # A quarter smaller than deflated, and read back in 0.5 s.
            archive.writestr(info, files[name], zipfile.ZIP_LZMA)
    partial.replace(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dict_dir", type=Path, help="folder of data.noun, index.noun, ...")
    parser.add_argument("--out", type=Path, default=HERE / "wordnet.zip", help="archive to write")
    args = parser.parse_args()
    missing = [name for name in COPIED if not (args.dict_dir / name).is_file()]
    if missing:
        parser.error(f"{args.dict_dir} lacks {', '.join(missing)}")
    build(args.dict_dir, args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
