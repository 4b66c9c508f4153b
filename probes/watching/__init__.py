"""How a model is watched from outside. No file here imports a measure.

- `batch.py`: a few images as every probe is shown them, with what probes share; read it first
- `passes.py`, `hooks.py`, `layers.py`: forward passes, and what lies inside them
- `gradients.py`, `reach.py`: gradients of one output, and how far they reach
- `attributions.py`: what each visible patch does for the prediction of a hidden one (captum)
- `views.py`: a data source as a probe sees it; `pictures.py`: what a model makes of single images
- `microscope.py`: one image, one mask, one patch
- `finetuning.py`, `trained_mask.py`: the encoder fine-tuned; the mask that training used
"""
