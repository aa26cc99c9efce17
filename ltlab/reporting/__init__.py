"""Which trick for your own long tail: from photographs to one page that answers.

sources       what photographs come as: a folder, lists, a CSV, an .npz, a data set
inspection    what can be read, what is there twice, what is too few
candidates    plain training and the recipes that are compared with it
trials        held-out logits of every candidate, kept in a folder
choice        paired differences, and a rule in favour of plain training
outcome       what is measured, as numbers
loops         the recommended recipe in plain PyTorch
drawings      figures
writing       the words, and what stands where
page          HTML
making        all of it in order: `report`
"""

from .. import require_extra

require_extra("course")

from .making import Report, report

__all__ = ["Report", "report"]
