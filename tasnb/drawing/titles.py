"""Titles of a run's figures and tables in its report."""

from __future__ import annotations

import re
from pathlib import Path

FIGURES = {
    "01_best_iou": "IoU of the best proposal, overall and by size of the target",
    "01_networks": "Best proposals of three networks (similar to Figure 3)",
    "01_proposals": "All proposals, and those kept by the refinement",
    "02_captions": "Captions of the same masks on a black and on a blurred background",
    "02_whole_captions": "Captions of whole images",
    "03_scores": "V, P, N and S of every mask for one expression",
    "03_separation": "How well each score separates the target from the other masks",
    "04_overview": "TAS on one expression, step by step (similar to Figure 2)",
    "04_rectifier": "The rectifier: the part that is kept, and the choices before and after",
    "05_ahead": "Gain of TAS over CLIP-only, with 95 % confidence intervals",
    "05_causes": "Sentences that TAS gets right, and causes of its errors",
    "05_failures": "Where CLIP-only is right and TAS is wrong",
    "05_maps": "Activation maps for one expression",
    "05_successes": "Where TAS is right and CLIP-only is wrong (similar to Figures 1 and 4)",
    "05_table1_miou": "Table 1 as bars: mIoU",
    "05_table1_oiou": "Table 1 as bars: oIoU",
    "06_grid": "mIoU and oIoU over alpha and lambda",
    "06_recipes": "Effect of each difference between the paper's text and the released code",
    "06_steps": "Sentences that each module makes better and worse",
    "06_table3": "Table 3: the weights alpha and lambda",
    "06_table4": "Table 4: ablation of the modules",
    "06_table5": "Table 5: crop or blur",
    "06_table6": "Table 6: captioners",
    "06_table7": "Table 7: encoders",
    "07_speed": "Seconds per image, by stage",
    "08_better": "Where extended is right and published is wrong",
    "08_choices": "Gain of each choice beyond the paper, with 95 % confidence intervals",
    "08_grid": "extended: mIoU and oIoU over alpha and lambda",
    "08_priors": "What words of place add to the score of a mask, over the image",
    "08_separation": "How well each score and the places separate the target from the other masks",
    "08_views": "Two views of each mask, with V in each",
    "08_words": "Words of place in the expressions, and what the paper's rule reads of them",
    "08_worse": "Where published is right and extended is wrong",
}
"""Stem of a figure's file -> its caption."""

TABLES = {
    "bench": "Measurements of the order of work, the store and the arithmetic",
    "beyond": "What each choice beyond the paper is worth",
    "beyond_kinds": "Both recipes by the words of place in the expression",
    "caption_accuracy": "How often the caption names the target",
    "causes": "Right answers and causes of errors (% of sentences)",
    "claims": "The paper's claims, checked against this run",
    "defects": "Cases in which the released code would crash or rank by NaN",
    "intervals": "All results of Tables 1 and 2 with 95 % confidence intervals",
    "kinds": "CLIP-only and TAS by kind of expression and size of target",
    "negatives": "Negatives per sentence, and targets among their own negatives",
    "newer": "Newer methods on the same proposals (some images of each split)",
    "no_target": "Sentences with several targets or none",
    "networks": "TAS with the proposals of three networks",
    "paper_check": "The paper's numbers and our 95 % intervals",
    "proposal_networks": "Proposals of three networks and their upper bounds",
    "recipes": "Differences between the paper's text and the released code",
    "rectifier_effect": "How often the rectifier acts and whether it helps",
    "speed": "Seconds per image and memory, by method",
    "speed_stages": "Seconds per image and memory, by stage",
    "speed_variants": "Seconds per image and memory with other models",
    "table1": "Table 1: every method on the RefCOCO family",
    "table1_extra": "Table 1: additional rows",
    "table2": "Table 2: phrases that may refer to several objects",
    "table2_extra": "Table 2: the other methods",
    "table3": "Table 3: the weights alpha and lambda",
    "table4": "Table 4: the modules one by one",
    "table4_gains": "Gain of each module by dataset and encoder",
    "table4_negatives": "Gain of N by what the negatives name, with several weights",
    "table4_steps": "Sentences that each module makes better and worse, by column",
    "table4_why": "Gains of P and N where captions are correct, and where they are not",
    "table5": "Table 5: crop or blur",
    "table5_differences": "Table 5: differences from the paper's choice",
    "table6": "Table 6: captioners",
    "table7": "Table 7: encoders",
    "upper_bound": "Upper bound: the best proposal for every sentence",
    "words_of_place": "Words of place in the expressions, and what the paper's rule reads",
}
"""Stem of a table's file -> its heading."""


def title(file: Path) -> str:
    """The title of a file: from the lists above, or from its name (my_table2 -> My table 2)."""
    known = FIGURES if file.suffix == ".png" else TABLES
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", file.stem.replace("_", " "))
    return known.get(file.stem, words[:1].upper() + words[1:])
