"""Further layouts, each a renaming of one that `lcmae.formats` reads: a file of code per family.

- `dinov2.py`: DINOv2's own files, with register tokens and chunks of blocks
- `mmpretrain.py`: mmpretrain, mmselfsup, Sapiens
- `one_frame.py`: video encoders for one frame (Prithvi)
- `position_grid.py`: tables of positions that lie on a grid, as SAM has them
- `halves.py`: official names whose encoder and decoder lie below prefixes of their own
- `crossmae.py`: CrossMAE, whose decoder attends to the encoder: its encoder alone
- `huggingface_masked.py`: Hugging Face's ViTForMaskedImageModeling
"""
