"""What the report calls the files of a run."""

from __future__ import annotations

import re
from pathlib import Path

FIGURES = {
    "01_best_iou": "IoU of the best proposal, and how it depends on the size of the target",
    "01_networks": "The best proposal of three networks (in the manner of Figure 3)",
    "01_proposals": "All of SAM's masks, and those that the refinement keeps",
    "02_captions": "Captions of the same masks, cropped on black and on a blurred background",
    "02_whole_captions": "Captions of whole images",
    "03_scores": "V, P, N and S of every mask for one expression",
    "03_separation": "How far each score lifts the target above the other masks",
    "04_overview": "TAS on one expression, step by step (in the manner of Figure 2)",
    "04_rectifier": "The rectifier: centres, the part that is kept, before and after",
    "05_ahead": "How far TAS is ahead of CLIP-only, with 95 % intervals",
    "05_causes": "How many sentences TAS gets right, and why it fails on the others",
    "05_failures": "Where CLIP-only is right and TAS is wrong",
    "05_maps": "Activation maps for one expression",
    "05_successes": "Where TAS is right and CLIP-only is wrong (in the manner of Figures 1 and 4)",
    "05_table1_miou": "Table 1 as bars: mIoU",
    "05_table1_oiou": "Table 1 as bars: oIoU",
    "06_grid": "mIoU and oIoU over alpha and lambda",
    "06_recipes": "What each difference between the paper and its released code is worth",
    "06_steps": "How many sentences each module mends and how many it spoils",
    "06_table3": "Table 3: the weights alpha and lambda",
    "06_table4": "Table 4: the modules one by one",
    "06_table5": "Table 5: crop or blur",
    "06_table6": "Table 6: captioners",
    "06_table7": "Table 7: encoders",
    "07_speed": "Seconds per image, by stage",
}
"""Stem of a figure's file -> what is written under it."""

TABLES = {
    "bench": "Order of work, store and arithmetic, measured",
    "caption_accuracy": "How often the caption names the target",
    "causes": "Right answers, and causes of wrong ones (% of sentences)",
    "claims": "The paper's claims, held against this run",
    "defects": "Where the released code would stop or rank by NaN",
    "intervals": "Every number of Tables 1 and 2 with its interval",
    "kinds": "CLIP-only and TAS by kind of expression and size of target",
    "negatives": "Targets among their own negatives",
    "networks": "TAS on the proposals of three networks",
    "proposal_networks": "Proposals of three networks, and their ceilings",
    "recipes": "The paper's text and its released code, difference by difference",
    "rectifier_effect": "How often the rectifier acts, and whether it helps",
    "speed": "Seconds per image and memory, by method",
    "speed_stages": "Seconds per image and memory, by stage",
    "speed_variants": "Seconds per image with other parts",
    "table1": "Table 1: every method on the RefCOCO family",
    "table1_extra": "Table 1, rows that the paper does not have",
    "table2": "Table 2: phrases that may mean several things",
    "table2_extra": "Table 2, the other methods",
    "table3": "Table 3: the weights alpha and lambda",
    "table4": "Table 4: the modules one by one",
    "table4_gains": "What each module adds, by dataset and encoder",
    "table4_steps": "What each module mends and spoils, by column",
    "table4_why": "What P and N gain where captions are right, and where they are not",
    "table5": "Table 5: crop or blur",
    "table6": "Table 6: captioners",
    "table7": "Table 7: encoders",
    "upper_bound": "The ceiling: the best proposal for every sentence",
}
"""Stem of a table's file -> its heading."""


def title(file: Path) -> str:
    """What a file is called: from the lists above, or from its name (my_table2 -> My table 2)."""
    known = FIGURES if file.suffix == ".png" else TABLES
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", file.stem.replace("_", " "))
    return known.get(file.stem, words[:1].upper() + words[1:])
