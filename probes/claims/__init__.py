"""Published claims in a small form that a small machine can hold them against: what is read off
which runs, and what decides.

claim.py        a claim, its effect and the rule that decides, declared before the runs are looked
at grids.py        the runs that claims share readings.py     one number of one run, by name
how_mask_matters.py, local_perspective.py, latent_hierarchy.py   the claims, by paper; catalogue.py
lists them rerun.py        trains and probes what is missing, then decides (the only file that
imports torch) record.py       what came out: claims.json and the Markdown page
"""
