"""The rules of arXiv 2605.28132 as its code has them, flaws included: to compare with its Table 1 and nothing else.

Every class says where it departs from that code. The rules to trust are those of `standard`.
"""
