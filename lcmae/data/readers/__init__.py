"""Readers, one a kind of container: each turns what lies there into a `Collection`, whose `read`
gives an image's path, encoded bytes, PIL image or array [h w c].

arrays.py (NumPy, zarr, anything indexable), items.py (lists, datasets, loaders, Hugging Face),
tiff.py (bands and stacks), tar.py (WebDataset shards), dicom.py (series), missing.py (packages that
are asked for). Folders of image files and Parquet lie beside this folder.
"""
