"""The rules of Probe3D as its code has them, flaws included: to compare with its tables and nothing else.

El Banani et al. (2024), "Probing the 3D awareness of visual foundation models", CVPR, arXiv 2404.08636. Only how a
prediction is scored is repeated, not how probes are trained. Every class says where it departs from that code.
"""
