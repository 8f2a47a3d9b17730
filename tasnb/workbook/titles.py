"""Titles of tables and figures in the report."""

from __future__ import annotations

import re
from pathlib import Path

FIGURES = {
    "01_best_iou": "IoU of the best proposal as a function of target size",
    "01_networks": "The best proposals of three networks (after Figure 3)",
    "01_proposals": "All of SAM's masks, and those kept by the refinement",
    "02_captions": "Captions of the same masks, cropped on black and on a blurred background",
    "02_whole_captions": "Captions of whole images",
    "03_scores": "V, P, N and S of each mask for one expression",
    "03_separation": "How well each score separates the target from the other masks",
    "04_overview": "TAS on one expression, step by step (after Figure 2)",
    "04_rectifier": "The rectifier: mask centres, the region kept, and the choice before and after",
    "05_ahead": "Gain of TAS over CLIP-only, with 95 % confidence intervals",
    "05_causes": "Share of sentences that TAS gets right, and causes of the errors",
    "05_failures": "Where CLIP-only is right and TAS is wrong",
    "05_maps": "Activation maps for one expression",
    "05_successes": "Where TAS is right and CLIP-only is wrong (after Figures 1 and 4)",
    "05_table1_miou": "Table 1 as a bar chart: mIoU",
    "05_table1_oiou": "Table 1 as a bar chart: oIoU",
    "06_grid": "mIoU and oIoU as functions of alpha and lambda",
    "06_recipes": "Effect of each difference between the paper and its released code",
    "06_steps": "Number of sentences that each module corrects and breaks",
    "06_table3": "Table 3: the weights alpha and lambda",
    "06_table4": "Table 4: ablation of the modules",
    "06_table5": "Table 5: crop or blur",
    "06_table6": "Table 6: captioners",
    "06_table7": "Table 7: encoders",
    "07_speed": "Seconds per image, by stage",
}
"""Stem of a figure's file -> its caption."""

TABLES = {
    "bench": "Time saved by the order of work, the store and the arithmetic",
    "caption_accuracy": "How often the caption names the target",
    "causes": "Correct answers, and causes of errors (% of sentences)",
    "claims": "The paper's claims compared with this run",
    "defects": "Where the released code would stop or rank by NaN",
    "intervals": "All numbers of Tables 1 and 2 with confidence intervals",
    "kinds": "CLIP-only and TAS by type of expression and target size",
    "negatives": "Negative phrases per sentence, and targets among their own negatives",
    "networks": "TAS on the proposals of three networks",
    "proposal_networks": "Proposals of three networks, and their upper bounds",
    "recipes": "The paper's text and its released code, difference by difference",
    "rectifier_effect": "How often the rectifier changes the choice, and whether it helps",
    "speed": "Seconds per image and memory, by method",
    "speed_stages": "Seconds per image and memory, by stage",
    "speed_variants": "Seconds per image with other models",
    "table1": "Table 1: all methods on the RefCOCO family",
    "table1_extra": "Table 1: additional rows, not in the paper",
    "table2": "Table 2: phrases that may refer to several objects",
    "table2_extra": "Table 2: additional methods, not in the paper",
    "table3": "Table 3: the weights alpha and lambda",
    "table4": "Table 4: ablation of the modules",
    "table4_gains": "Gain from each module, by dataset and encoder",
    "table4_steps": "Sentences that each module corrects and breaks, by column",
    "table4_why": "Gains from P and N where captions are correct and where they are not",
    "table5": "Table 5: crop or blur",
    "table6": "Table 6: captioners",
    "table7": "Table 7: encoders",
    "upper_bound": "Upper bound: the best proposal for each sentence",
}
"""Stem of a table's file -> its heading."""


def title(file: Path) -> str:
    """The title of a file, from the lists above or from its name (my_table2 -> My table 2)."""
    known = FIGURES if file.suffix == ".png" else TABLES
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", file.stem.replace("_", " "))
    return known.get(file.stem, words[:1].upper() + words[1:])
